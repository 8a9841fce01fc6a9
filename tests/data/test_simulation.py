"""The embedded survey against lenstronomy's own imaging, astropy's profiles, and the numbers it is calibrated on."""

import numpy as np
import pytest
from astropy.modeling.models import Sersic2D
from astropy.stats import mad_std
from hypothesis import given, settings
from hypothesis import strategies as st
from lenstronomy.Data.imaging_data import ImageData
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LensModel.lens_model_extensions import LensModelExtensions
from lenstronomy.LightModel.light_model import LightModel
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from scipy.signal import fftconvolve
from scipy.stats import chisquare, ks_2samp, kstest

from lensdet.data import lensing, light, simulation
from lensdet.data.lensing import render_source
from lensdet.data.light import CENTRE, SCALE, moffat_psf
from lensdet.data.random import stream
from lensdet.data.simulation import NEIGHBOUR_COUNTS, SKY_NOISE, render
from lensdet.data.stamps import KEYWORDS, normalise
from lensdet.parameters import Simulation, resolve

P = resolve({"profile": "quick"})
N = 150  # stamps of each class in what is compared as a distribution
HOSTS = ("lrg", "contaminant")


def draw(cls, n, **options):
    drawn = [render(cls, i, P, **options) for i in range(n)]
    truth = {name: np.array([t[name] for _, t in drawn]) for name in drawn[0][1]}
    return np.stack([pixels for pixels, _ in drawn]), truth


@pytest.fixture(scope="module")
def hosts():
    """Pixels (N, 101, 101) and truth by class."""
    return {cls: draw(cls, N) for cls in HOSTS}


@pytest.fixture(scope="module")
def bare():
    """LRGs alone in the field, in units of their sky noise, and truth."""
    pixels, truth = draw("lrg", N, neighbours=False)
    return pixels / truth["sky_noise"][:, None, None], truth


@pytest.fixture(scope="module")
def sources():
    """400 lensed sources without supersampling, which changes no draw, and truth."""
    p = resolve({"profile": "quick", "supersampling": 1})
    drawn = [render_source(i, p) for i in range(400)]
    return np.stack([s for s, _ in drawn]), {name: np.array([t[name] for _, t in drawn]) for name in drawn[0][1]}


def corners(pixels, k=12):
    """Four k x k boxes of sky, (n, 4, k, k)."""
    near, far = slice(k), slice(-k, None)
    return np.stack([pixels[:, a, b] for a in (near, far) for b in (near, far)], 1)


# ---- random streams


def test_random_streams_depend_only_on_their_key():
    first = stream(3, "a", 1, 2).random(4)
    stream(3, "b", 1, 2).random(1000)
    np.testing.assert_array_equal(stream(3, "a", 1, 2).random(4), first)
    for other in ((4, "a", 1, 2), (3, "b", 1, 2), (3, "a", 2, 1), (3, "a", 1, 3)):
        assert np.all(stream(*other).random(4) != first)


def test_an_object_has_the_same_pixels_whatever_was_drawn_before():
    make = [lambda i, c=cls: render(c, i, P) for cls in HOSTS] + [lambda i: render_source(i, P)]
    for one in make:
        pixels, truth = one(7)
        for other in make:
            other(3)
        np.random.default_rng(0).random(100)
        again, truth_again = one(7)
        assert pixels.tobytes() == again.tobytes() and truth == truth_again
        assert np.mean(one(8)[0] == pixels) < 0.01


def test_another_data_seed_gives_another_survey():
    other = resolve({"profile": "quick", "data_seed": 1})
    assert render("lrg", 0, other)[1]["peak_snr"] != render("lrg", 0, P)[1]["peak_snr"]
    assert render_source(0, other)[1]["einstein_radius"] != render_source(0, P)[1]["einstein_radius"]


# ---- the same noise, whatever is left out


@pytest.mark.parametrize("ident", range(6))
def test_leaving_out_neighbours_or_structure_keeps_the_noise(ident):
    full, truth = render("contaminant", ident, P)
    image = {
        (n, s): render("contaminant", ident, P, neighbours=n, structure=s)[0].astype(float)
        for n in (True, False)
        for s in (True, False)
    }
    np.testing.assert_array_equal(image[True, True], full)
    rounding = 3e-7 * np.abs(full).max()
    neighbours = image[True, True] - image[False, True]
    # what the neighbours add does not depend on what else is there: all the noise went in the difference
    np.testing.assert_allclose(neighbours, image[True, False] - image[False, False], atol=rounding, rtol=0)
    around, _ = simulation._neighbours(stream(P.data_seed, "contaminant/neighbours", ident))
    light = fftconvolve(around, moffat_psf(truth["seeing"]), "same") * truth["peak_snr"] * truth["sky_noise"]
    np.testing.assert_allclose(neighbours, np.maximum(light, 0), atol=rounding, rtol=0)
    structure = image[True, True] - image[True, False]
    for part in (neighbours, structure):
        assert part.min() > -rounding and part.max() > truth["sky_noise"]
        # smoothed by the seeing: the finest checkerboard, as strong as anything in white noise, is as good as absent
        checkerboard = part * (-1) ** np.add.outer(np.arange(101), np.arange(101))
        assert abs(checkerboard.sum()) < 2e-3 * part.sum()


def test_leaving_out_structure_does_not_change_an_lrg():
    np.testing.assert_array_equal(render("lrg", 2, P)[0], render("lrg", 2, P, structure=False)[0])


# ---- sky, noise, neighbours: the numbers of the real stamps


def test_normalised_sky_agrees_with_real_stamps(hosts):
    """Within a factor of 1.5 of the thesis' LRGs: median 0.0232, sigma 0.0096 of the pixels below 0.1."""
    images = normalise(hosts["lrg"][0]).reshape(N, -1)
    sky = np.where(images < 0.1, images, np.nan)
    median = np.nanmedian(sky, 1)
    sigma = np.sqrt(np.nanmean((sky - median[:, None]) ** 2, 1))
    assert 1 / 1.5 < np.median(median) / 0.0232 < 1.5
    assert 1 / 1.5 < np.median(sigma) / 0.0096 < 1.5


def test_sky_noise_has_the_sigma_of_the_truth(bare):
    """Of the corners, in units of the sky's own sigma; the light of the galaxy's wings adds some per cent."""
    pixels, truth = bare
    assert np.median(truth["sky_noise"]) == pytest.approx(SKY_NOISE, rel=0.03)
    assert np.median(corners(pixels).std((2, 3))) == pytest.approx(1, abs=0.03)


def test_sky_noise_has_the_measured_pixel_correlation(bare):
    boxes = corners(bare[0], 16)
    boxes = boxes - boxes.mean((2, 3), keepdims=True)
    variance = (boxes**2).mean()
    assert (boxes[:, :, 1:] * boxes[:, :, :-1]).mean() / variance == pytest.approx(0.2, abs=0.03)
    assert (boxes[..., 1:] * boxes[..., :-1]).mean() / variance == pytest.approx(0.2, abs=0.03)
    assert (boxes[..., 2:] * boxes[..., :-2]).mean() / variance == pytest.approx(0, abs=0.03)


@settings(max_examples=10, deadline=None)
@given(signal=st.floats(0, 1000), seed=st.integers(0, 1000))
def test_photon_noise_grows_with_the_signal(signal, seed):
    rng = np.random.default_rng(seed)
    noise = simulation._noise(rng, np.full((101, 101), signal))
    expected = np.sqrt(1 + signal / simulation.PHOTONS_PER_SIGMA)  # Poisson: variance grows with the signal
    assert noise.std() == pytest.approx(expected, rel=0.06)
    assert abs(noise.mean()) < 0.08 * expected


def test_neighbour_counts_follow_their_distribution(hosts):
    for cls in HOSTS:
        counts = np.bincount(hosts[cls][1]["neighbours"], minlength=6)
        expected = N * NEIGHBOUR_COUNTS
        # the rarest together: chi-square needs some five of each
        counts, expected = (np.r_[c[:3], c[3:].sum()] for c in (counts, expected))
        assert chisquare(counts, expected).pvalue > 0.01


def test_counted_neighbours_are_above_8_percent_of_the_central_peak():
    """The brightest neighbour over the central peak: above about 0.08 where one is counted, below where none is."""
    brightest, counted = [], []
    for ident in range(80):
        full, truth = render("lrg", ident, P)
        alone = render("lrg", ident, P, neighbours=False)[0]
        brightest.append((full - alone).max() / truth["sky_noise"] / truth["peak_snr"])
        counted.append(truth["neighbours"] > 0)
    brightest, counted = np.array(brightest), np.array(counted)
    assert np.mean((brightest > 0.08) == counted) > 0.85
    assert np.median(brightest[counted]) > 4 * np.median(brightest[~counted])


def test_few_neighbours_are_brighter_than_the_central_galaxy(hosts):
    """In 1 of 46 real stamps (95 % interval: 0.4 to 11 %)."""
    pixels = hosts["lrg"][0]
    centre = slice(CENTRE - 4, CENTRE + 5)
    assert np.mean(pixels[:, centre, centre].max((1, 2)) < pixels.max((1, 2))) < 0.06


def test_lrgs_and_contaminants_share_noise_seeing_and_size(hosts):
    """Peak over noise, sky noise, seeing, neighbours: no K-S test tells LRGs from contaminants."""
    peak = {}
    for cls, (pixels, _) in hosts.items():
        centre = slice(CENTRE - 5, CENTRE + 6)
        peak[cls] = pixels[:, centre, centre].max((1, 2)) / mad_std(corners(pixels), axis=(2, 3)).min(1)
    assert ks_2samp(*peak.values()).pvalue > 0.01
    for name in ("peak_snr", "sky_noise", "seeing", "radius", "axis_ratio"):
        assert ks_2samp(*(truth[name] for _, truth in hosts.values())).pvalue > 0.01


@pytest.mark.parametrize("cls", HOSTS)
def test_peak_signal_to_noise_equals_that_of_the_truth(cls):
    """Of the whole object, with what makes it a contaminant."""
    pixels, truth = draw(cls, 60, neighbours=False)
    peak = pixels.max((1, 2)) / truth["sky_noise"]
    # the noise of the peak: sky and photons; the largest of several pixels is a little above
    sigma = np.sqrt(1 + truth["peak_snr"] / simulation.PHOTONS_PER_SIGMA)
    pull = (peak - truth["peak_snr"]) / sigma
    assert np.all(np.abs(pull) < 5) and abs(np.median(pull)) < 1


# ---- profiles and seeing


@settings(max_examples=25, deadline=None)
@given(fwhm=st.floats(0.45, 1.0), beta=st.floats(1.8, 4.5))
def test_psf_has_the_requested_fwhm(fwhm, beta):
    psf = moffat_psf(fwhm, beta)
    assert psf.sum() == pytest.approx(1) and psf.min() > 0
    x = np.arange(25) - 12
    assert abs((psf * x).sum()) < 1e-12 and abs((psf * x[:, None]).sum()) < 1e-12  # centred
    profile = CubicSpline(np.arange(13), np.log(psf[12, 12:] / psf[12, 12]))
    half = brentq(lambda r: profile(r) - np.log(0.5), 0.3, 6)
    assert 2 * half * SCALE == pytest.approx(fwhm, rel=0.02)


def test_psf_of_the_sources_is_the_mean_psf_of_the_survey():
    """Facts of the survey's mean PSF: 2.99 pixels FWHM."""
    assert lensing.SOURCE_SEEING / SCALE == pytest.approx(2.99)


@settings(max_examples=25, deadline=None)
@given(
    radius=st.floats(0.3, 3), index=st.floats(1, 6), q=st.floats(0.3, 1), angle=st.floats(0, 180), x0=st.floats(-2, 2)
)
def test_sersic_profile_equals_astropy(radius, index, q, angle, x0):
    """The radius is the geometric mean of the axes; astropy's is the longer one."""
    ours = light.sersic(radius, index, q, angle, x0, 0.5)
    oracle = Sersic2D(1, radius / np.sqrt(q), index, x0, 0.5, 1 - q, np.deg2rad(angle))(light.X, light.Y)
    near = np.hypot(light.X - x0, light.Y - 0.5) > 0.1  # the cusp is softened
    np.testing.assert_allclose(ours[near], oracle[near], rtol=0.03, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(index=st.floats(0.5, 5), q=st.floats(0.3, 1), angle=st.floats(0, 180))
def test_sources_and_galaxies_measure_angles_alike(index, q, angle):
    ours = lensing._light(0.5, index, q, angle, 0.3, -0.2, 1.0)
    image = LightModel(["SERSIC_ELLIPSE"]).surface_brightness(light.X, light.Y, [ours])
    np.testing.assert_allclose(image, light.sersic(0.5, index, q, angle, 0.3, -0.2), rtol=1e-6)


# ---- lensed sources


def _captured(monkeypatch, ident):
    """The pixels of a source, and what its image was traced from."""
    seen, trace = {}, lensing.lensed_image

    def spy(lens, lights, supersampling, bright_radius, scale):
        seen.update(lens=lens, lights=lights, radius=bright_radius)
        return trace(lens, lights, supersampling, bright_radius, scale)

    with monkeypatch.context() as patch:
        patch.setattr(lensing, "lensed_image", spy)
        pixels, _ = render_source(ident, P)
    return pixels.astype(float), seen


def _lenstronomy(scene, supersampling):
    """lenstronomy's own image of the same scene, supersampled everywhere."""
    edge = -CENTRE * SCALE
    data = ImageData(
        image_data=np.zeros((101, 101)), transform_pix2angle=SCALE * np.eye(2), ra_at_xy_0=edge, dec_at_xy_0=edge
    )
    model = ImageModel(
        data,
        PSF("PIXEL", kernel_point_source=moffat_psf(lensing.SOURCE_SEEING)),
        lens_model_class=LensModel(["SIE", "SHEAR"]),
        source_model_class=LightModel(["SERSIC_ELLIPSE"] * len(scene["lights"])),
        kwargs_numerics={"supersampling_factor": supersampling, "supersampling_convolution": False},
    )
    return model.image(scene["lens"], scene["lights"], None, None)


def _difference(image, reference):
    """Root mean square of the difference over that of the reference, for images of unit flux."""
    image, reference = image / image.sum(), reference / reference.sum()
    return np.sqrt(((image - reference) ** 2).mean() / (reference**2).mean())


def test_lensed_sources_equal_lenstronomy(monkeypatch):
    """Supersampling where it is bright, as good as everywhere: equal to 0.1 %; and within 6 % of 8 x 8 everywhere.

    What is left is the light of clumps of 0.02 arcsec, of which 4 x 4 rays a pixel hit or miss the cusp.
    """
    finer = []
    for ident in range(6):
        pixels, scene = _captured(monkeypatch, ident)
        assert _difference(pixels, _lenstronomy(scene, P.supersampling)) < 1e-3
        finer.append(_difference(pixels, _lenstronomy(scene, 8)))
    assert max(finer) < 0.06 and np.median(finer) < 0.03


def test_lensed_sources_converge_with_supersampling(monkeypatch):
    """The median error of six sources at 4 x 4 is below 3 %, a fifth of that without, and falls further at 12 x 12."""
    errors = []
    for ident in range(6):
        _, scene = _captured(monkeypatch, ident)
        images = [
            fftconvolve(lensing.lensed_image(scene["lens"], scene["lights"], n, scene["radius"]), moffat_psf(0.598))
            for n in (1, 4, 12, 32)
        ]
        errors.append([_difference(image, images[-1]) for image in images[:-1]])
    none, default, fine = np.median(errors, 0)
    assert default < 0.03 and default < none / 4 and fine < default / 1.5


@settings(max_examples=15, deadline=None)
@given(radius=st.floats(1, 5))
def test_a_lensed_ring_has_the_einstein_radius(radius):
    """A small source behind the centre of a round lens: mean radius within 0.05 pixels."""
    truth = {"einstein_radius": radius, "lens_axis_ratio": 1.0, "lens_angle": 0.0, "shear": 0.0, "shear_angle": 0.0}
    lights = [lensing._light(0.08, 0.5, 1.0, 0.0, 0.0, 0.0, 1.0)]
    image = lensing.lensed_image(lensing._lens_kwargs(truth), lights, 8, 0.6)
    r = np.hypot(light.X, light.Y)
    assert (image * r).sum() / image.sum() == pytest.approx(radius, abs=0.05 * SCALE)


@pytest.mark.parametrize("q, shear", [(0.8, 0.0), (0.4, 0.0), (0.5, 0.05)])
def test_reach_of_the_caustic_equals_lenstronomy(q, shear):
    """Against lenstronomy's critical curves; a shear moves the tip by less than the smallest source's radius."""
    truth = {"einstein_radius": 1.5, "lens_axis_ratio": q, "lens_angle": 25.0, "shear": shear, "shear_angle": 25.0}
    lens = lensing._lens_kwargs(truth)
    curves = LensModelExtensions(LensModel(["SIE", "SHEAR"])).critical_curve_caustics(
        lens, compute_window=8, grid_scale=0.02
    )
    tangential = max(range(len(curves[0])), key=lambda i: np.ptp(curves[0][i]))
    reach = np.hypot(curves[2][tangential], curves[3][tangential]).max()
    assert lensing._caustic_reach(truth, lens) == pytest.approx(reach, abs=0.2 if shear else 0.02)


def test_source_parameters_are_complete_and_in_range(sources):
    truth = sources[1]
    assert set(KEYWORDS.values()) <= truth.keys() and len(KEYWORDS) == 11
    p = P.section(Simulation)
    for name in ("einstein_radius", "lens_axis_ratio", "shear", "source_radius", "source_axis_ratio", "source_sersic"):
        low, high = p[name]
        assert low <= truth[name].min() and truth[name].max() <= high
        assert np.ptp(truth[name]) > 0.9 * (high - low)
    for name in ("lens_angle", "shear_angle", "source_angle"):
        assert kstest(truth[name] / 180, "uniform").pvalue > 0.01
    assert set(truth["source_clumps"]) == set(range(p["source_clumps"][0], p["source_clumps"][1] + 1))


def test_einstein_radii_are_log_uniform(sources):
    for name in ("einstein_radius", "source_radius"):
        low, high = np.log(getattr(P, name))
        assert kstest((np.log(sources[1][name]) - low) / (high - low), "uniform").pvalue > 0.01
        assert kstest(sources[1][name], "uniform", getattr(P, name)).pvalue < 1e-3  # the test can tell


def test_sources_lie_within_reach_of_the_caustic(sources):
    """Within the reach of the caustic and one effective radius, uniformly in area."""
    truth = [dict(zip(sources[1], values, strict=True)) for values in zip(*sources[1].values(), strict=True)]
    reach = [lensing._caustic_reach(t, lensing._lens_kwargs(t)) + t["source_radius"] for t in truth]
    distance = np.hypot(sources[1]["source_x"], sources[1]["source_y"]) / reach
    assert distance.max() <= 1 and kstest(distance**2, "uniform").pvalue > 0.01


def test_sources_lie_in_the_field(sources):
    """Little light at the frame: below 5 % of the flux in the outer five pixels, in 99 of 100; and no noise."""
    pixels = sources[0].astype(float)
    frame = 1 - pixels[:, 5:-5, 5:-5].sum((1, 2)) / pixels.sum((1, 2))
    assert np.quantile(frame, 0.99) < 0.05
    assert np.all(pixels.min((1, 2)) > -1e-12 * pixels.max((1, 2)))


# ---- contaminants


def test_contaminant_kinds_have_their_shares(hosts):
    kinds = hosts["contaminant"][1]["kind"]
    expected = N * np.array(simulation._KIND_SHARES)
    assert chisquare([np.sum(kinds == kind) for kind in simulation.KINDS], expected).pvalue > 0.01


def test_hardness_makes_contaminants_like_lenses():
    """Over 60 objects: structure as faint as arcs (0.16 of the peak in the mean), and out of the core (below 5 %)."""
    r = np.hypot(light.X, light.Y)
    peak, core = [], []
    for hardness in (0.0, 0.5, 1.0):
        p = resolve({"profile": "quick", "hardness": hardness})
        found = []
        for ident in range(60):
            full, truth = render("contaminant", ident, p)
            structure = full - render("contaminant", ident, p, structure=False)[0]
            found.append(
                (structure.max() / truth["sky_noise"] / truth["peak_snr"], structure[r < 1].sum() / structure.sum())
            )
        for values, value in zip((peak, core), np.median(found, 0), strict=True):
            values.append(value)
    arcs = np.median([s[r < 1].sum() / s.sum() for s in (render_source(i, P)[0] for i in range(60))])
    for values, lenses in ((peak, np.mean(P.alpha)), (core, arcs)):
        distance = np.abs(np.array(values) - lenses)
        assert distance[0] > distance[1] > distance[2]
    assert peak[0] > 0.25 and peak[2] < 0.22
