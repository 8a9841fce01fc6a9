"""Headline numbers follow from the committed logits: computed again, and compared with README, docs and figures."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from lensdet import parameters
from lensdet.chapters import thesis
from lensdet.chapters.comparison import budgets, claims
from lensdet.chapters.losses import tables, threshold_control
from lensdet.chapters.maxtree import summary
from lensdet.experiments import BCE, ENSEMBLES, F_1, F_BETA, MAX_TREE
from lensdet.study import Study

ROOT = Path(__file__).parents[3]
FIGURES = ROOT / "figures"
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "why" / "results.md"
PROFILES = [profile for profile in budgets.PROFILES if (FIGURES / profile / "comparison_claims.csv").exists()]


@pytest.fixture(scope="module")
def committed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LENSDET_RESULTS", str(ROOT / "results"))
        patch.setenv("LENSDET_FIGURES", str(FIGURES))
        yield


@pytest.fixture(scope="module")
def lite(committed):
    """Parameters, data key and Table 5.1 of the profile that README and results begin with."""
    p = parameters.resolve({"profile": "lite"})
    key = p.survey_key()
    return p, key, tables.table_5_1(Study(p, key), Study(p, key).resamples())


def test_committed_table_5_1_follows_from_the_committed_logits(lite):
    *_, table = lite
    written = pd.read_csv(FIGURES / "lite" / "table_5_1.csv")
    pd.testing.assert_frame_equal(table, written, rtol=1e-5, check_dtype=False)


def rows_of(path):
    """Lines of the tables of a page, by their first cell."""
    return {line.split("|")[1].strip(): line for line in path.read_text().splitlines() if line.startswith("|")}


def test_results_have_the_numbers_of_table_5_1_with_their_intervals(lite):
    *_, table = lite
    lines = rows_of(RESULTS)
    for model, rows in table.groupby("model"):
        cells = [f"{r['mean']:.3f} ({r.test_low:.3f}–{r.test_high:.3f})" for _, r in rows.iterrows()]
        assert all(cell in lines[model] for cell in cells), (model, cells)


@pytest.mark.parametrize("profile", ["quick", "evening", "lite", "overnight"])
def test_results_have_how_far_training_goes(committed, profile):
    """Of cross-entropy and soft F_beta in each profile."""
    study = Study(parameters.resolve({"profile": profile}))
    table = tables.table_5_1(study, study.resamples()).set_index(["model", "metric"])
    cells = [cell.strip() for cell in rows_of(RESULTS)[f"`{profile}`"].split("|")[2:-1]]
    assert [int(cell.replace(",", "")) for cell in cells[:3]] == [
        round(study.parameters.images, -3), study.parameters.width, table.runs.max()
    ]  # fmt: skip
    for cell, model in zip(cells[3:], (BCE, F_BETA), strict=True):
        accuracy, precision, recall = (table.loc[(model, name)] for name in ("accuracy", "precision", "recall"))
        span = f"({accuracy.test_low:.3f}–{accuracy.test_high:.3f})"
        assert cell == f"{accuracy['mean']:.3f} {span}; {precision['mean']:.3f}, {recall['mean']:.3f}"


def test_readme_has_the_means_of_table_5_1_beside_those_of_the_thesis(lite):
    *_, table = lite
    lines, means = rows_of(README), table.set_index(["model", "metric"])["mean"]
    for model, published in thesis.TABLE_5_1.items():
        both = [f"{means[model, name]:.3f}, {published[name][0]:.3f}" for name in ("accuracy", "precision", "recall")]
        assert " | ".join(both) in lines[model], model


def test_findings_of_the_readme_are_those_of_the_tables():
    text = " ".join(README.read_text().split())
    matched = pd.read_csv(FIGURES / "lite" / "02_matched.csv").set_index(["matched", "at", "model"]).sort_index()
    soft, bce = (matched.loc["precision", "that of F_beta Soft Loss", model]
                 for model in ("F_beta Soft Loss", "Binary Cross Entropy"))  # fmt: skip
    low, high, difference = (f"{soft[name]:.3f}".replace("-", "−") for name in ("low", "high", "difference"))
    said = f"{soft.target:.3f}, cross-entropy finds {bce['mean']:.3f} of the lenses, the soft F_beta loss "
    assert f"{said}{soft['mean']:.3f} (difference {difference}, 95 % {low} to {high})" in text
    own = pd.read_csv(FIGURES / "lite" / "02_own_thresholds.csv").set_index(["model", "metric"])["mean"]
    said = f"cross-entropy has an F_beta of {own['Binary Cross Entropy', 'F_beta']:.3f}, the soft F_beta loss "
    assert f"{said}{own['F_beta Soft Loss', 'F_beta']:.3f}" in text
    real = pd.read_csv(FIGURES / "lite" / "07_real_pixels.csv").set_index(["finder", "quantity", "step"]).sort_index()
    found = real.loc["bce", "mock lenses found at p = 0.5"]
    on_real, simulated = found.loc["mocks on real galaxies"], found.loc["the same, normalised again"]
    said = (
        f"On {on_real.galaxies:.0f} real galaxies cross-entropy finds {on_real.value:.2f} of mock lenses, on simulated"
    )
    assert f"{said} ones {simulated.value:.2f}" in text


def test_cross_entropy_finds_more_lenses_at_each_precision_than_each_soft_loss():
    """The answer that the README begins with."""
    matched = pd.read_csv(FIGURES / "lite" / "02_matched.csv")
    soft = matched[(matched.matched == "precision") & matched.model.str.contains("(?i)soft loss")]
    assert soft.model.nunique() == 3 and (soft.high < 0).all()
    at = matched[(matched.matched == "precision") & (matched["at"] == "that of Binary Cross Entropy")].set_index(
        "model"
    )
    models = ["Binary Cross Entropy", "F_beta Soft Loss", "F_1 Soft loss", "F_1 Double Soft loss"]
    bce, fbeta, f1, double = at["mean"].loc[models]
    said = f"at a precision of {at.target.iloc[0]:.3f} it finds {bce:.3f}, soft F_beta {fbeta:.3f}, soft F1 {f1:.3f}, "
    assert f"{said}double soft F1 {double:.3f}" in " ".join(README.read_text().split())
    rows = at.loc[models[2:]]
    numbers = [
        f"{r.mean:.3f} ({r.difference:.3f}, {r.low:.3f} to {r.high:.3f})".replace("-", "−") for r in rows.itertuples()
    ]
    text = " ".join(RESULTS.read_text().split())
    assert f"soft F1 {numbers[0]}, double soft F1 {numbers[1]}" in text


@pytest.mark.parametrize("profile", PROFILES)
def test_headline_numbers_follow_from_the_committed_logits(committed, profile):
    p = parameters.resolve({"profile": profile})
    key = p.survey_key()
    which = claims.judged_on(Study(p, key))
    computed = claims.claims(Study(p, key), Study(p, key).resamples(which), which)
    written = budgets.read([profile])[profile]
    assert computed.verdict.tolist() == written.verdict.tolist()
    for name in ("difference", "low", "high"):
        np.testing.assert_allclose(computed[name], written[name], rtol=1e-5, atol=1e-9)
    text = (FIGURES / "comparison.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    for r in budgets.headlines({profile: computed}).itertuples():
        spread = [f"{x:+.3f}" if np.isfinite(x) else "–" for x in (r.thesis, r.difference, r.low, r.high)]
        assert any(line[2:3] == [profile] and line[3:] == [str(r.runs), *spread, r.verdict] for line in lines), r
    assert any(claims.counted(computed) in line for line in text.splitlines())
    both = (text, RESULTS.read_text())
    assert all(sentence in page for sentence in budgets.sentences(budgets.headlines(budgets.read())) for page in both)


@pytest.mark.parametrize("profile", PROFILES)
def test_ranking_follows_from_the_committed_logits(committed, profile):
    """Means alone, which need no resamples but a few."""
    study = Study(parameters.resolve({"profile": profile}))
    which = claims.judged_on(study)
    table = threshold_control.ranking(study, study.resamples(which, draws=20), which)
    written = pd.read_csv(FIGURES / profile / "comparison_ranking.csv")
    same = ["model", "measure", "cross_entropy", "soft_loss", "difference", "runs", "images"]
    pd.testing.assert_frame_equal(table[same], written[same], rtol=1e-5, check_dtype=False)
    lines = [line for line in (FIGURES / "comparison.md").read_text().splitlines() if line.startswith(f"| {profile} ")]
    for r in written.itertuples():
        means = f"| {r.cross_entropy:.3f} | {r.soft_loss:.3f} | {r.difference:+.3f} "
        assert any(r.measure in line and means in " ".join(line.split()) for line in lines), r


def test_readme_and_results_count_the_verdicts_of_the_lite_profile(committed):
    table = budgets.read(["lite"])["lite"]
    n, ensembles = (t.verdict.value_counts() for t in (table, table[table.question == 3]))
    readme, results = (" ".join(path.read_text().split()) for path in (README, RESULTS))
    counts = f"{n['agrees']} agree, {n['contradicts']} contradict, {n['equivalent']} are equivalent within 0.01, "
    assert (
        f"Of the thesis' {len(thesis.CLAIMS)} claims {counts}{n['open']} are open and {n['no run']} have no" in readme
    )
    decided = int((table.runs > 0).sum())
    said = f"Of the thesis' {len(thesis.CLAIMS)} claims, {decided} have runs there: "
    assert f"{said}{counts}and {n['open']} are open" in results
    found = budgets.read()
    last = pd.Series([found[profile].verdict[i] for i, profile in budgets.comparison_figures.counting(found).items()])
    n = last.value_counts()
    others, all_of_them = len(last) - decided, len(last)
    rest = f"agree, {n['contradicts']} contradict, {n['equivalent']} are equivalent and {n['open']} are open"
    assert f"With these {others} judged in `evening`, {n['agrees']} of the {all_of_them} {rest}" in readme
    assert f"with the other {others} judged in `evening`, {n['agrees']} of all {all_of_them} {rest}" in results
    r = table.set_index("claim").loc[f"recall: {F_1} > {BCE}"]
    of_1 = ((table.question == 1) & (table.runs >= 5)).sum()
    assert f"Claim 3 is open: corrected for {of_1} claims, its p-value is {r.p_adjusted:.3f}" in results
    assert f"{ensembles['equivalent']} are equivalent within 0.01 and {ensembles['open']} are open" in results


def test_answer_with_a_rate_for_each_loss_is_that_of_the_tables(committed):
    ranks = pd.read_csv(FIGURES / "evening" / "comparison_ranking.csv")
    assert len(ranks) == 6 and (ranks.runs == 5).all() and (ranks.verdict == "lower").all()
    found = ranks[ranks.measure == threshold_control.RANKING[1]]
    bce, soft = found.cross_entropy.iloc[0], found.soft_loss
    readme, results = (" ".join(path.read_text().split()) for path in (README, RESULTS))
    said = f"cross-entropy finds {bce:.3f} at its own precision, the others {soft.iloc[0]:.3f}, {soft.iloc[1]:.3f} and "
    assert f"{said}{soft.iloc[2]:.3f}." in readme and f"it finds {bce:.3f} of 10,000 other mock lenses" in results
    for r, name in zip(found.itertuples(), ("soft F_beta", "soft F1", "double soft F1"), strict=True):
        numbers = f"({r.difference:.3f}, {r.low:.3f} to {r.high:.3f})".replace("-", "−")
        assert f"{name} {r.soft_loss:.3f} {numbers}" in results
    table = budgets.read(["evening"])["evening"]
    n = table.verdict.value_counts()
    counts = f"{n['agrees']} agree, {n['contradicts']} contradict, {n['equivalent']} are equivalent and {n['open']} are"
    assert (table.runs > 0).all()
    assert f"`evening` has runs for all {len(table)}, on 20,000 other test images: {counts} open" in results
    n = table[table.question == 3].verdict.value_counts()
    assert f"`evening`: {n['agrees']} agree, {n['equivalent']} are equivalent, {n['open']} open" in results
    assert f"and {n['contradicts']} contradicted, of {n.sum()})" in results


def test_soft_f1_finds_more_lenses_after_few_images(committed):
    text, said = " ".join(RESULTS.read_text().split()), []
    for profile in ("quick", "evening"):
        table = budgets.read([profile])[profile].set_index("claim")
        r = table.loc[f"recall: {F_1} > {BCE}"]
        assert r.images == 20_000 and r.runs == 5
        numbers = f"{r.difference:+.3f} ({r.low:+.3f} to {r.high:+.3f}; {r.verdict})".replace("-", "−")
        said.append(f"`{profile}` {numbers}")
    assert f"20,000 images: {', '.join(said)}" in text


def test_results_count_what_the_two_budgets_say_together(committed):
    """`quick` and `evening`, each of five runs."""
    said = budgets.counted_over_budgets(budgets.over(budgets.read()))
    assert said in (FIGURES / "comparison.md").read_text()
    n = dict(part.split(": ") for part in said[said.index("(") + 1 : said.index(")")].split("; "))
    text, agree, contradict = " ".join(RESULTS.read_text().split()), n["stable, agrees"], n["stable, contradicts"]
    words = f"{agree} agree, {contradict} contradicts and {n['equivalent']} are equivalent; {n['open']} are open in at"
    assert f"{words} least one, and no claim changes sides" in text and len(n) == 4


def test_two_selections_of_evening_chose_the_same_checkpoints(committed):
    """So that claims on the one and on the other are one number."""
    study = Study(parameters.resolve({"profile": "evening"}))
    by_one, by_other = (study.scores(model).logits for model in ("F_beta metric", "Soft F_beta metric"))
    assert len(by_one) == 5 and np.array_equal(by_one, by_other)
    table = budgets.read(["evening"])["evening"]
    of_one, of_other = (table[table.b == model].set_index(["a", "metric"]).difference
                        for model in ("F_beta metric", "Soft F_beta metric"))  # fmt: skip
    pairs = pd.concat([of_one, of_other], axis=1, keys=["one", "other"]).dropna()
    assert (pairs.one == pairs.other).sum() == len(pairs) == 5
    assert "same checkpoints in all five runs: five pairs of claims have one difference" in " ".join(
        RESULTS.read_text().split()
    )


def test_section_on_ensembles_has_the_numbers_of_its_tables(committed):
    """Of the profile that notebook 05 is drawn in."""
    names = "raw_weights bands gains against targets cascade baselines weights".split()
    tables = (pd.read_csv(FIGURES / "evening" / f"05_{name}.csv") for name in names)
    raw, bands, gains, against, targets, cascade, means, weights = tables
    text = " ".join(RESULTS.read_text().split("## 3.")[1].split("## 4.")[0].split())
    of_3 = raw[raw.ensemble == "NM_3"]
    said = "{:.3f}, {:.3f} and {:.3f}.".format(*of_3.raw).replace("-", "−")
    assert f"the weights of NM_3 are {said}" in text
    assert "which makes them {:.2f}, {:.2f} and {:.2f};".format(*of_3.weight) in text
    low, high, between = bands[bands.ensemble == "NM_3"].itertuples()
    assert between.thresholds == "between"
    assert f"between, {between.softmax:.3f} and {between.optimum:.3f}." in text
    assert low.thresholds.startswith("p < 0.21") and "Below p = 0.21" in text
    assert f"is {low.softmax:.3f} with the softmax and {low.optimum:.3f} without" in text
    assert high.thresholds.startswith("p > 0.79") and "Above 0.79, where an output of 0" in text
    assert f"rejects one, it is {high.softmax:.3f} with and {high.optimum:.3f} without" in text
    auc = gains[gains.measure == "area under the ROC curve"].set_index("ensemble").gain
    assert f"{auc['mean of 3']:.3f} over its members' average" in text
    assert f"the mean of three runs of BCE {auc['3 runs of Binary Cross Entropy']:.3f}" in text
    best = against[(against.against == "best member") & against.ensemble.isin(ENSEMBLES)]
    n = best.verdict.value_counts().reindex(["higher", "equivalent", "lower", "open"], fill_value=0)
    said = f"none is shown to be higher, {n['equivalent']} are equivalent, {n['lower']} lower and {n['open']} open"
    assert n["higher"] == 0 and f"[{len(best)} differences]" in text and said in text
    before = best[best.verdict == "open"].high < 0
    family = against[against.against == "best member"]
    assert (
        f"{before.sum()} of them with an uncorrected interval below 0; the correction is for {len(family)}, w" in text
    )
    of_bce = weights[weights.member == BCE].set_index("ensemble").weight
    assert f"as {of_bce['NM_3']:.2f} and {of_bce['NM_6']:.2f} of their [weight]" in text
    best = best.set_index(["ensemble", "measure"]).sort_index()
    high = "F_beta, mean over p > 0.75"
    quoted = {("NM_3", high): "equivalent", ("NM_6", high): "equivalent", ("NM_3", "accuracy"): "equivalent",
              ("IDE_6", "accuracy"): "lower"}  # fmt: skip
    for which, verdict in quoted.items():
        r = best.loc[which]
        assert r.verdict == verdict
        assert f"{r.difference:+.3f} ({r.low:+.3f} to {r.high:+.3f})".replace("-", "−") in text, which
    (r,) = against[(against.ensemble == "mean of 3") & (against.measure == "area under the ROC curve")
                   & against.against.str.startswith("3 runs of B")].itertuples()  # fmt: skip
    said = f"{r.difference:.3f}, {r.test_low:.3f} to {r.test_high:.3f}, images alone".replace("-", "−")
    assert f"ends at {r.mean:.3f}, the second at {r.its_mean:.3f} (difference {said})" in text
    taught = 100 * targets[targets["set"] == "training"].groupby("ensemble")[["by_label", "most_frequent"]].mean()
    assert f"for {taught.by_label['IDE_3']:.0f} % of a training chunk" in text
    of_6 = taught.loc["IDE_6"]
    assert (
        f"Of six it is so for {of_6.by_label:.0f} %; always naming one member is right for {of_6.most_frequent:.0f} %"
        in text
    )
    found = means[means.measure == "area under the ROC curve"].set_index("model")["mean"]
    alone = "single runs of Binary Cross Entropy"
    assert f"NM_3 has {found['NM_3']:.3f}, single runs of BCE {found[alone]:.3f}" in text
    said = "{:.3f} (three members) and {:.3f} (six), that of BCE after 262,000 {:.3f}."
    assert said.format(*found[["IDE_3", "IDE_6", "Binary Cross Entropy"]]) in text
    table = budgets.read(["evening"])["evening"].set_index("claim")
    names = ["recall: IDE_3 > NM_3", "recall: IDE_6 > NM_6"]
    recalls, earlier = table.loc[names], budgets.read(["quick"])["quick"].set_index("claim").loc[names]
    assert (recalls.verdict == "contradicts").all() and (recalls.images == 20_000).all()
    of_3, of_6 = (f"{-r.difference:.3f} ({-r.high:.3f} to {-r.low:.3f}; " for r in recalls.itertuples())
    assert f"here less, by {of_3}three) and {of_6}six; 20,000 images): contradicted (`quick`: open)" in text
    assert (earlier.verdict == "open").all()
    at = cascade[cascade.thresholds == "of recall 0.5"].set_index("model")
    both, bce = at.loc["cascade"], at.loc["Binary Cross Entropy"]
    assert f"a precision of {both.precision:.3f} at a recall of {both.recall:.2f}" in text
    said = f"({bce.cascade_minus_it:.3f}, {bce.low:.3f} to {bce.high:.3f})".replace("-", "−")
    assert f"BCE alone has {bce.precision:.3f} there {said}" in text
    assert f"The second stage sees {100 * both.seen_by_second:.0f} %" in text


def test_share_of_negatives_whose_class_neighbours_change_has_an_exact_interval():
    """Clopper and Pearson's, of BCE in `lite`."""
    table = pd.read_csv(FIGURES / "lite" / "03_left_out.csv").set_index(["model", "left out", "of"])
    r = table.loc["bce", "neighbours", "negatives with neighbours"]
    k = round(r["decisions changed"] * r.n)
    low, high = binomtest(k, int(r.n)).proportion_ci()
    said = f"Of {r.n:.0f} negatives {k} change class without their neighbours ({100 * k / r.n:.0f} %, exact interval "
    assert f"{said}{100 * low:.0f} to {100 * high:.0f} %)" in " ".join(RESULTS.read_text().split())


def test_section_on_segmentation_has_the_numbers_of_its_tables(committed):
    """Of the profile that notebook 06 is drawn in; differences are segmented less whole, the other way than claims."""
    names = ("differences", "lost", "removed", "arc_removed", "discs")
    compared, lost, removed, radii, discs = (pd.read_csv(FIGURES / "evening" / f"06_{name}.csv") for name in names)
    text = " ".join(RESULTS.read_text().split("## 4.")[1].split("## What to expect")[0].split())

    def said(r, unit="", scale=1, digits=3):
        difference, low, high = (f"{scale * x:+.{digits}f}" for x in (r.difference, r.low, r.high))
        return f"{difference}{unit} ({low} to {high}".replace("-", "−")

    table = budgets.read(["evening"])["evening"]
    table = table[table.b == MAX_TREE]
    assert len(table) == 4 and (table.verdict == "agrees").all() and (table.images == 20_000).all()
    assert (table.runs == 5).all() and "five paired runs" in text
    for r in table.itertuples():
        turned = r._replace(difference=-r.difference, low=-r.high, high=-r.low)
        thesis_has = f"{-r.thesis:+.3f}".replace("-", "−")
        assert f"{claims.METRICS[r.metric]} {said(turned)}; thesis {thesis_has})" in text
    areas = compared[compared.measure == "area under the ROC curve"].set_index("preset")
    (best,) = set(areas.index) - {"text"}
    assert (areas.verdict == "lower").all()
    assert f"on 551 + 551: {said(areas.loc['text'])}); with the mask that tells" in text
    assert f"{said(areas.loc[best])})." in text
    of = removed[removed.settings == "text"].set_index("share")
    arcs = of.loc["pixels"]
    assert f"{100 * of['mean'].neighbours:.0f} % of the neighbours' pixels" in text
    said_of_arcs = (
        f"{100 * arcs['mean']:.1f} % of the arcs' ({100 * arcs.low:.1f} to {100 * arcs.high:.1f} %, {arcs.n:.0f} "
    )
    assert said_of_arcs in text
    bins = radii[radii.settings == "text"]
    small, large = bins.iloc[0], bins.iloc[-1]
    assert f"{100 * small['mean']:.1f} % at Einstein radii below {small.radius_high:.1f} arcsec" in text
    assert f"{100 * large['mean']:.0f} % above {large.radius_low:.1f}." in text
    bins = summary.of_settings(lost, "text")
    ways = ("less than 1 %", "1 to 10 %", "10 to 50 %", "more")
    said_of_bins = [f"{said(r)}; {r.n:.0f} lenses, {way})" for r, way in zip(bins.itertuples(), ways, strict=True)]
    assert f"changes by {', '.join(said_of_bins[:3])} and {said_of_bins[3]}." in text
    assert "it is {:.3f}, {:.3f}, {:.3f} and {:.3f}".format(*bins.plain) in text
    assert (bins.verdict == "lower").all() and bins.difference.idxmin() == 3
    shares = (
        f"together {100 * bins.part[3]:.0f} % of the whole loss; {100 * bins.part[0]:.0f} % of the whole loss is of"
    )
    assert f"{shares} lenses that keep more than 99 % of their arc.**" in text
    pixels, light = (discs[discs.share == share].set_index("settings") for share in ("arc kept", "light kept"))
    for name, words in (("text", "of this mask"), ("code", "of the published settings"), (best, "of the best mask")):
        both = f"{said(pixels.loc[name], '', 100, 1)}) and {said(light.loc[name], '', 100, 1)})"
        assert f"{words} {both}" in text
    fewer, *none = (pixels.interval[name] for name in ("text", "code", best))
    assert (fewer, none, set(light.interval)) == ("below 0", ["holds 0"] * 2, {"above 0"})


@pytest.fixture(scope="module")
def rates():
    spec = importlib.util.spec_from_file_location("rates", ROOT / "benchmarks" / "rates.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_of_learning_rates_follows_from_the_committed_histories(committed, rates):
    assert rates.markdown(rates.scanned("evening")) in (ROOT / "docs" / "why" / "rates.md").read_text()


def test_table_of_the_published_recipe_follows_from_the_committed_logits(committed, rates):
    table = rates.recipes("evening")
    assert table.groupby(["loss", "recipe"], sort=False).run.apply(list).tolist() == [[1, 2]] * 4
    assert rates.markdown_of_recipes(table) in (ROOT / "docs" / "why" / "rates.md").read_text()


def test_claims_have_the_same_sign_with_the_published_recipe(committed, rates):
    """Those of cross-entropy and soft F_beta that `evening` decides; means alone, which need no resamples but a few."""
    given = {"profile": "evening", "experiments": ["bce", "fbeta"], "runs": len(rates.RUNS), **rates.PUBLISHED}
    study = Study(parameters.resolve(given))
    found = claims.claims(study, study.resamples("large", draws=20), "large")
    own = budgets.read(["evening"])["evening"]
    own = own[(found.runs > 0) & own.verdict.isin(["agrees", "contradicts"])]
    n = own.verdict.value_counts()
    assert (n["agrees"], n["contradicts"]) == (7, 2)
    assert (np.sign(found.difference[own.index]) == np.sign(own.difference)).all()
    text = " ".join((ROOT / "docs" / "why" / "rates.md").read_text().split())
    assert "seven agree and two contradict. With the published recipe all nine have the same sign" in text
    both = [t.difference.map("{:+.3f}".format).str.replace("-", "−") for t in (found, own)]
    first, second = own.index[own.verdict == "contradicts"]
    assert f"on the test set ({both[0][first]}; `evening` {both[1][first]})" in text
    assert f"a higher soft F_beta ({both[0][second]}; {both[1][second]})" in text
    (recall,) = own.index[(own.metric == "recall") & (own.b == BCE)]
    of = rates.recipes("evening").groupby(["loss", "recipe"]).recall.mean().unstack("loss").diff(axis=1).fbeta
    assert of["as published"] == pytest.approx(found.difference[recall])
    same_two = f"{of['cosine, chosen rate']:+.3f}".replace("-", "−")
    assert f"{both[0][recall]}, and {same_two} in the same two runs with the cosine" in text


def test_learning_rate_of_a_loss_is_the_lower_mean_of_the_best_two(rates):
    """Of the two best of run 1 that of the lower mean; none where a run is missing."""
    table = pd.DataFrame({"loss": ["bce"] * 3 + ["f1"] * 3, "rate": rates.RATES * 2,
                          "run 1": [0.3, 0.1, 0.2, 0.5, 0.6, np.nan],
                          "run 2": [0.0, 0.4, 0.2, 0.5, 0.5, np.nan]})  # fmt: skip
    assert rates.chosen(table) == [2]
    assert "| **0.0003** | 0.2000" in rates.markdown(table) and rates.markdown(table).count("**") == 2
    table.loc[5, "run 1"] = 0.7  # of which run 2 is not needed
    assert rates.chosen(table) == [2, 3]
    table.loc[2, "run 2"] = np.nan
    assert rates.chosen(table) == [3]
