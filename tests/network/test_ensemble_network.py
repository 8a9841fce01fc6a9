"""DE_m: its targets by hand, its members frozen, one step by hand."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from lensdet import parameters
from lensdet.data import frozen_sets, mocklens
from lensdet.network import engine, ensemble_network, resnet
from lensdet.network.state import State

eighths = st.integers(-96, 96).map(lambda k: k / 8)  # that tie now and then


@given(st.lists(st.lists(eighths, min_size=3, max_size=3), min_size=1, max_size=8), st.data())
def test_closest_member_equals_a_plain_search(logits, data):
    labels = data.draw(st.lists(st.sampled_from([0, 1]), min_size=len(logits), max_size=len(logits)))
    found = np.asarray(ensemble_network.closest(np.float32(labels), np.float32(logits)))
    for y, z, k in zip(labels, logits, found, strict=True):
        wrong = [-v if y else v for v in z]  # how far on the wrong side
        assert k == wrong.index(min(wrong))  # the first of those that tie


def test_closest_member_of_saturated_ones_is_found_by_logits():
    labels, logits = np.float32([1, 1, 0]), np.float32([[20, 40, 30], [1, 30, 40], [-200, -300, -200]])
    assert np.asarray(ensemble_network.closest(labels, logits, "text")).tolist() == [1, 2, 1]
    assert np.asarray(ensemble_network.closest(labels, logits, "code")).tolist() == [0, 1, 0]


@pytest.fixture(scope="module")
def p():
    return parameters.resolve({"profile": "smoke", "workers": 1, "chunk_size": 32, "learning_rate": 0.01})


@pytest.fixture(scope="module")
def members(p):
    """Two networks with moving averages and weights of their own; the first says lens where the second says none."""
    found = []
    for run in (1, 2):
        model = resnet.resnet18(p.width, p.momentum, p.l2)
        resnet.initialise(model, p.seed, run)
        rng = np.random.default_rng(run)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
        found.append(model)
    return found


@pytest.fixture(scope="module")
def learner(p, members, smoke_bank):
    return ensemble_network.DynamicEnsembler(p.dynamic(), members, 1, *mocklens.device_bank(smoke_bank, "train"))


def chunk(p, bank, number):
    return mocklens.training_rows(p, 1, number, mocklens.sizes(bank, "train"))


def by_hand(labels, own, others, protocol):
    """Cross-entropy (in float64) and accuracy of DE_m's logits (N, m) against the closest of the members' (N, m)."""
    target = np.asarray(ensemble_network.closest(labels, others, protocol))
    chosen = log_softmax(own.astype(float), -1)[np.arange(len(labels)), target]
    return -chosen.mean(), (own.argmax(-1) == target).mean()


def test_frozen_members_give_their_own_logits_without_augmentation(learner, members, smoke_bank, p):
    """No augmentation, no batch statistics for the members, no penalty on their weights."""
    rows, warps = chunk(p, smoke_bank, 0)
    batch = {**{n: rows[n][:16] for n in ("stamp", "source", "alpha", "label")}, "warp": warps[:16]}
    stamps = np.asarray(learner.augmented(learner.bank, batch))
    np.testing.assert_allclose(stamps, mocklens.images(smoke_bank, "train", rows[:16]), atol=1e-6)
    outputs = np.asarray(learner.network(stamps, training=True))
    for i, member in enumerate(members):
        single = np.asarray(resnet.logit_model(member)(stamps, training=False))[:, 0]
        np.testing.assert_allclose(outputs[:, 2 + i], single, rtol=1e-4, atol=1e-5)
    own = sum(float(keras.ops.sum(layer.kernel**2)) for layer in learner.model.layers
              if isinstance(layer, keras.layers.Conv2D))  # fmt: skip
    assert float(sum(learner.network.losses)) == pytest.approx(p.l2 * own, rel=1e-5)


@pytest.mark.parametrize("protocol", ["text", "code"])
def test_objective_is_the_cross_entropy_of_the_closest_member(learner, protocol):
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(0, 20, (40, 4)).astype("f4"), np.repeat(np.float32([1, 0]), 20)
    asked, learner.parameters = learner.parameters, learner.parameters.model_copy(update={"protocol": protocol})
    found, padded = float(learner.objective(labels, outputs)), np.zeros((2, 128, 4), "f4")
    padded.reshape(-1, 4)[:40] = outputs
    values = np.asarray(learner.select(labels, padded, 0.0))
    learner.parameters = asked
    loss, accuracy = by_hand(labels, outputs[:, :2], outputs[:, 2:], protocol)
    assert found == pytest.approx(loss, rel=1e-5)
    assert values == pytest.approx([loss, accuracy], rel=1e-5)


def test_training_changes_the_ensemble_network_and_not_its_members(learner, members, smoke_bank, p, tmp_path):
    before = [[v.numpy().copy() for v in m.variables] for m in members]
    start, rows = [np.array(v) for v in learner.get()], chunk(p, smoke_bank, 3)
    assert len(start) == len(learner.model.variables)  # what is kept of a run has nothing of the members
    losses = np.asarray(learner.train_chunk(*rows))
    assert losses.shape == (2,) and np.isfinite(losses).all()
    assert all(np.array_equal(x, y) for m, b in zip(members, before, strict=True)
               for x, y in zip([v.numpy() for v in m.variables], b, strict=True))  # fmt: skip
    assert any(not np.array_equal(x, y) for x, y in zip(start, learner.get(), strict=True))
    averages = [v.numpy().copy() for v in learner.averages()]
    learner.average_statistics(*rows)
    assert not any(np.array_equal(x, v.numpy()) for x, v in zip(averages, learner.averages(), strict=True))
    assert all(np.array_equal(x, y) for m, b in zip(members, before, strict=True)
               for x, y in zip([v.numpy() for v in m.variables], b, strict=True))  # fmt: skip
    state, more = [np.array(v) for v in learner.get(every=True)], chunk(p, smoke_bank, 4)
    once = np.asarray(learner.train_chunk(*more))
    learner.set(state)  # a run that is taken up again goes on as it would have
    saved = State()
    saved.add({"chunk": 0, "loss": 1.0, "accuracy": 0.5}, learner)
    saved.save(tmp_path / "state.npz", learner, 1.0)
    learner.train_chunk(*rows)
    read = State.load(tmp_path / "state.npz", learner)
    assert np.array_equal(once, np.asarray(learner.train_chunk(*more)))
    assert read.best == {"loss": (1.0, 0), "accuracy": (0.5, 0)} and len(read.kept[0]) == len(learner.model.variables)


def test_ensemble_network_validation_follows_from_its_logits(learner, members, smoke_bank, p):
    bank = engine.on_device(*mocklens.device_bank(smoke_bank, "validation"))
    rows = frozen_sets.frozen_rows(p, "validation", mocklens.sizes(smoke_bank, "validation"))
    own, stamps = learner.logits(rows, bank), mocklens.images(smoke_bank, "validation", rows)
    assert own.shape == (48, 2)
    np.testing.assert_allclose(own, np.asarray(resnet.logit_model(learner.model)(stamps)), rtol=1e-3, atol=1e-4)
    others = np.concatenate([np.asarray(resnet.logit_model(m)(stamps)) for m in members], -1)
    assert learner.validate(rows, bank) == pytest.approx(by_hand(rows["label"], own, others, "text"), rel=1e-4)
    assert np.asarray(learner.model(stamps)).sum(-1) == pytest.approx(1, abs=1e-5)  # weights of the members
    learner.train_chunk(*chunk(p, smoke_bank, 5))
    own = learner.logits(rows, bank)
    assert learner.validate(rows, bank) == pytest.approx(by_hand(rows["label"], own, others, "text"), rel=1e-4)
    few = rows[:30]  # another set is not taken for this one
    assert learner.validate(few, bank) == pytest.approx(by_hand(few["label"], own[:30], others[:30], "text"), rel=1e-4)


def test_ensemble_run_name_depends_on_members_protocol_and_chunks():
    """The name goes by members, protocol and its own chunks; no finder's name depends on any of these."""
    p = parameters.resolve({})

    def name(experiment="IDE_3", **given):
        return parameters.resolve(given).experiment_name(experiment, "0123abcd")

    names = [name(), name(protocol="code"), name(dynamic_chunks=7), name(chunks=50), name(beta=0.2), name("IDE_6")]
    assert len(set(names)) == len(names)
    assert name("bce") == name("bce", dynamic_chunks=7, protocol="code", ensembles="NM_3")
    assert p.dynamic().chunks == p.dynamic().patience == p.dynamic_chunks
