"""The broad survey: its stamps are what its parameters say, and only structure tells contaminants from galaxies."""

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import ks_2samp, kstest

from lensdet.data import broad, lensing, light, simulation
from lensdet.data.random import stream
from lensdet.parameters import resolve

P = resolve({"simulation": "broad"})
N = 150


def changed(**values):
    return P.model_copy(update=values)


@pytest.fixture(scope="module")
def galaxies():
    pixels, truth = zip(*(broad.render("lrg", i, P) for i in range(N)), strict=True)
    return np.stack(pixels), truth


def test_the_same_id_has_the_same_pixels_and_another_seed_others(galaxies):
    assert broad.render("lrg", 7, P)[0].tobytes() == galaxies[0][7].tobytes()
    assert broad.render("lrg", 7, changed(data_seed=1))[0].tobytes() != galaxies[0][7].tobytes()
    assert broad.render("lrg", 7, P)[0].tobytes() != simulation.render("lrg", 7, P)[0].tobytes()


def test_draws_fill_their_ranges(galaxies):
    for name, (low, high), log in (
        ("peak_snr", P.peak_snr, True),
        ("seeing", P.seeing, True),
        ("radius", P.host_radius, True),
        ("sersic", P.host_sersic, False),
        ("axis_ratio", P.host_axis_ratio, False),
        ("psf_ellipticity", P.psf_ellipticity, False),
        ("noise_correlation", P.noise_correlation, False),
        ("sky_gradient", P.sky_gradient, False),
    ):
        drawn = np.array([truth[name] for truth in galaxies[1]])
        scaled = np.log(drawn / low) / np.log(high / low) if log else (drawn - low) / (high - low)
        assert kstest(scaled, "uniform").pvalue > 0.001, name


def test_the_peak_is_as_drawn():
    p = changed(neighbours=(0, 0), sky_gradient=(0, 0), peak_snr=(200, 500))
    for i in range(20):
        pixels, truth = broad.render("lrg", i, p)
        assert pixels[45:56, 45:56].max() == pytest.approx(truth["peak_snr"], rel=0.1)


@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.44])
def test_noise_is_correlated_as_asked(correlation):
    p, found = changed(noise_correlation=(correlation, correlation), sky_gradient=(0, 0)), []
    for i in range(30):
        noise, _ = broad._noise(stream(0, "test", i), np.zeros((101, 101)), p)
        found.append([noise.std(), (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()])
    sigma, lag = np.mean(found, 0)
    assert sigma == pytest.approx(1, abs=0.02) and lag == pytest.approx(correlation, abs=0.02)


def test_a_sloping_sky_is_as_steep_as_drawn():
    p = changed(neighbours=(0, 0), sky_gradient=(2, 2))
    x, y = light.grid(1 / light.SIZE)
    for i in range(10):
        noise, _ = broad._noise(stream(0, "test", i), np.zeros((101, 101)), p)
        slope = np.linalg.lstsq(np.stack([x.ravel(), y.ravel()], 1), noise.ravel(), rcond=None)[0]
        assert np.hypot(*slope) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("scale", [0.2, 0.263])
def test_a_star_has_the_fwhm_and_the_ellipticity_of_its_psf(scale):
    for i in range(5):
        psf = light.draw_psf(stream(3, "test", i), P)
        kernel = light.psf_kernel(psf, scale)
        half = len(kernel) // 2
        x, y = np.meshgrid(np.arange(-half, half + 1) * scale, np.arange(-half, half + 1) * scale)

        def moffat(_, width, ratio, angle, beta, peak, x=x, y=y):
            along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            return (peak * (1 + (along**2 * ratio + across**2 / ratio) / width**2) ** -beta).ravel()

        start = (0.6, 0.9, np.deg2rad(psf["psf_angle"]), 3, kernel.max())
        (width, ratio, _, beta, _), _ = curve_fit(moffat, None, kernel.ravel(), start)
        fwhm = 2 * width * np.sqrt(2 ** (1 / beta) - 1)
        assert fwhm == pytest.approx(psf["seeing"], rel=1e-3)
        assert ratio == pytest.approx(1 - psf["psf_ellipticity"], abs=1e-3)
        assert kernel.sum() == pytest.approx(1)


def test_neighbours_are_as_many_and_as_bright_as_drawn():
    p = changed(neighbours=(4, 4))
    count = [broad._neighbours(stream(0, "n", i), light.psf_kernel(light.draw_psf(stream(0, "p", i), p), 0.2), 100, p)
             for i in range(80)]  # fmt: skip
    assert np.mean([n for _, n in count]) == pytest.approx(4, abs=0.8)
    assert max(image.max() for image, _ in count) < 2 * 3 * 100  # two may lie on each other
    assert np.mean([image.max() > 3 for image, n in count if n]) > 0.9


def test_contaminants_share_sky_and_peaks_with_galaxies(galaxies):
    others = [broad.render("contaminant", i, P)[1] for i in range(N)]
    for name in ("peak_snr", "seeing", "noise_correlation", "sky_gradient", "neighbours", "radius"):
        assert ks_2samp([t[name] for t in others], [t[name] for t in galaxies[1]]).pvalue > 0.001, name


def test_leaving_out_the_neighbours_leaves_galaxy_and_noise():
    for i in range(20):
        full, truth = broad.render("lrg", i, P)
        bare, _ = broad.render("lrg", i, P, neighbours=False)
        assert (full - bare).min() > -1e-3 * truth["peak_snr"]


def test_sources_have_a_psf_of_their_own_and_the_same_lens():
    thesis = resolve({})
    for i in range(6):
        (ours, truth), (theirs, same) = (lensing.render_source(i, p) for p in (P, thesis))
        assert {k: v for k, v in truth.items() if k != "source_seeing"} == same
        assert P.seeing[0] <= truth["source_seeing"] <= P.seeing[1]
        blurred = truth["source_seeing"] > lensing.SOURCE_SEEING * 1.3
        if blurred:
            assert ours.max() < theirs.max()


def test_a_source_at_another_scale_has_the_same_einstein_radius():
    p = changed(seeing=(0.5, 0.5), psf_ellipticity=(0, 0), einstein_radius=(2, 2), supersampling=12)
    for i in range(4):
        mean = []
        for scale in (0.2, 0.25):
            pixels, _ = lensing.render_source(i, p.model_copy(update={"simulated_scale": scale}))
            r = np.hypot(*light.grid(scale))
            near = r < 5
            mean.append((pixels * r)[near].sum() / pixels[near].sum())
        assert mean[0] == pytest.approx(mean[1], rel=0.02)


def test_close_companions_are_as_many_as_asked_and_none_beside_an_empty_centre():
    r, counts = np.hypot(*light.grid()), []
    for share in (0.0, 0.5, 1.0):
        p, found = changed(close_companions=share, neighbours=(0, 0), seeing=(0.6, 0.6)), 0
        kernel = light.psf_kernel(light.draw_psf(stream(0, "p", 0), p), 0.2)
        for i in range(60):
            image, _ = broad._neighbours(stream(0, "close", i), kernel, 400, p)
            alone, _ = broad._neighbours(stream(0, "close", i), kernel, 400, p, galaxy_there=False)
            found += image[r < 3].max() > 5  # what is faint elsewhere has 4 at the most
            assert alone[r < 1].max() < 5
        counts.append(found / 60)
    assert counts[0] < 0.05 and 0.25 < counts[1] < 0.65 and counts[2] > 0.75  # some are too near to stand out
