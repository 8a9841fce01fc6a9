"""Each class of the broad survey's negatives shows what it is named after."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter
from scipy.signal import fftconvolve
from scipy.stats import chisquare

from lensdet.data import broad, contaminants, light
from lensdet.data.random import stream
from lensdet.data.scene import Scene
from lensdet.parameters import resolve

P = resolve({"simulation": "broad", "neighbours": (0, 0), "sky_gradient": (0, 0), "peak_snr": (150, 400)})
ADDED = ("ring", "companions", "merger", "trail", "star beside")  # to the galaxy; others may take its place
DEFECTS = ("cosmic ray", "bad pixels", "tile edge", "sky step")
N = 6


@pytest.fixture
def only(monkeypatch):
    """Draw one class."""
    kinds = contaminants.KINDS
    return lambda kind: monkeypatch.setattr(contaminants, "KINDS", {kind: (1.0, kinds[kind][1])})


def render(i, p=P, **left_out):
    return broad.render("contaminant", i, p, **left_out)


def scene(kind, i, scale=0.2, p=P):
    """What `contaminants.draw` draws a class from."""
    galaxy = broad._draw_galaxy(stream(5, "galaxy", i), p)
    return stream(5, kind, i), galaxy, light.psf_kernel(light.draw_psf(stream(5, "psf", i), p), scale), scale


@pytest.mark.parametrize("kind", contaminants.KINDS)
def test_the_same_id_has_the_same_pixels_and_all_are_finite_and_as_bright_as_drawn(kind, only):
    only(kind)
    for i in range(N):
        pixels, truth = render(i)
        assert truth["kind"] == kind and np.isfinite(pixels).all() and np.ptp(pixels) > 0
        if i < 2:
            assert pixels.tobytes() == render(i)[0].tobytes()
        if kind not in (*DEFECTS, "empty", "faint"):
            # a star beside the galaxy may be brighter, up to where it is cut
            most = 4.0 if kind == "star beside" else 1.0
            assert 0.85 < pixels.max() / truth["peak_snr"] < 1.25 * most


@pytest.mark.parametrize("scale", [0.1, 0.4])
def test_any_pixel_scale_will_do(scale):
    for kind in contaminants.KINDS:
        for i in range(2):
            rng, *others = scene(kind, i, scale)
            made = contaminants.KINDS[kind][1](Scene(rng, *others, 0.8))
            for image in (made.light, made.seen, made.defect(np.zeros((101, 101)))):
                assert np.isfinite(image).all()


@pytest.mark.parametrize("kind", [*ADDED, *DEFECTS])
def test_without_structure_the_same_galaxy_stands_under_the_same_noise(kind, only):
    only(kind)
    for i in range(3):
        bare, truth = render(i, structure=False)
        added = render(i)[0] - bare
        assert bare[45:56, 45:56].max() > 0.2 * truth["peak_snr"]
        if kind in ADDED:  # smooth light, without noise
            assert np.abs(added - gaussian_filter(added, 0.5)).max() < 0.4 * np.abs(added).max()
            assert np.median(np.abs(np.diff(np.diff(added)))) < 0.2
            assert added.min() > -1e-3 * truth["peak_snr"] or kind in ("trail", "star beside")  # dark, or cut
        elif kind != "sky step":
            assert np.median(added) == pytest.approx(0, abs=0.2)


def test_shares_are_those_stated():
    shares = np.array([share for share, _ in contaminants.KINDS.values()])
    assert shares.sum() == pytest.approx(1)
    found = [contaminants.draw(*scene("kind", i)).kind for i in range(400)]
    counts = [found.count(kind) for kind in contaminants.KINDS]
    assert chisquare(counts, 400 * shares).pvalue > 0.001


def test_arms_have_power_in_two_to_four_waves_about_the_centre_and_a_galaxy_has_not(only):
    only("spiral")

    def power(pixels, truth):
        r, theta = np.hypot(*light.grid()), np.arctan2(*light.grid()[::-1])
        found = []
        for low in np.arange(1.0, 8.0, 0.4):
            ring = (r >= low) & (r < low + 0.4)
            waves = [np.abs((pixels[ring] * np.exp(1j * m * theta[ring])).mean()) for m in (2, 3, 4)]
            found.append(np.max(waves) * np.sqrt(ring.sum()))  # over the noise of a mean
        return np.max(found)

    round_p = P.model_copy(update={"host_axis_ratio": (1.0, 1.0), "host_disc": (0.0, 0.0)})
    whole = np.array([power(*render(i, round_p)) for i in range(30)])
    plain = np.array([power(*broad.render("lrg", i, round_p)) for i in range(30)])
    assert np.mean(whole > 2 * np.median(plain)) > 0.7, (whole, plain)


@pytest.mark.parametrize("kind", ["spiral", "ring"])
def test_structure_around_a_galaxy_is_as_faint_as_arcs_are_and_no_fainter_than_the_noise(kind):
    p, strengths = P.model_copy(update={"peak_snr": (10, 500)}), []
    for i in range(80):
        rng, galaxy, psf, scale = scene(kind, i, p=p)
        made = contaminants.KINDS[kind][1](Scene(rng, galaxy, psf, scale, 0.9))
        if made.host:
            peak = fftconvolve(made.light, psf, "same").max()
            assert peak > 0.99 * min(0.5, 4 / galaxy["peak_snr"])
            assert peak < 0.51 or kind == "ring"  # some with the galaxy that went through
            strengths.append(peak)
    assert np.min(strengths) < 0.05 and np.median(strengths) < 0.3


def test_an_empty_sky_has_no_light_in_the_centre_and_a_faint_source_has_little(only):
    centre = (slice(45, 56), slice(45, 56))
    only("empty")
    p = P.model_copy(update={"noise_correlation": (0, 0)})
    z = [render(i, p)[0][centre].mean() * 11 for i in range(20)]
    assert np.abs(z).max() < 4.5 and np.abs(np.mean(z)) < 1
    only("faint")
    bright = [gaussian_filter(render(i, p)[0], 1)[40:61, 40:61].max() for i in range(20)]
    assert np.min(bright) > 1 and np.max(bright) < 12


def test_a_trail_is_a_straight_line_of_excess(only):
    only("trail")
    p = P.model_copy(update={"seeing": (0.7, 0.7)})
    seen = 0
    for i in range(20):
        excess = render(i, p)[0] - render(i, p, structure=False)[0]
        bright = np.abs(excess)
        if bright.max() < 1:
            continue
        x, y = (v - (bright * v).sum() / bright.sum() for v in light.grid())
        across = np.linalg.eigvalsh(np.cov(np.stack([x.ravel(), y.ravel()]), aweights=bright.ravel()))
        seen += np.sqrt(across[0]) < 0.45 * np.sqrt(across[1])
    assert seen >= 15


def test_cosmic_rays_are_sharper_than_the_psf(only):
    only("cosmic ray")
    for i in range(N):
        tracks = render(i)[0] - render(i, structure=False)[0]
        assert tracks.min() > -1e-3 and tracks.max() >= 4.9
        row, column = np.unravel_index(tracks.argmax(), tracks.shape)
        near = np.pad(tracks, 3)[row : row + 7, column : column + 7]  # (7, 7) about the brightest
        assert (near > near.max() / 2).sum() <= 14  # a star of 0.5 arcsec has a disc of 5, a trail 7 pixels long 21


def test_a_tile_edge_leaves_the_filled_part_and_the_centre(only):
    only("tile edge")
    shares = []
    for i in range(20):
        (pixels, _), (bare, _) = render(i), render(i, structure=False)
        filled = pixels != bare
        shares.append(filled.mean())
        assert len(np.unique(pixels[filled])) == 1
        assert pixels[filled][0] == pytest.approx(np.median(bare[~filled]))
        assert not filled[np.hypot(*light.grid()) < 1.95].any()
    assert 0 < min(shares) < 0.02 < max(shares) <= 0.45


def test_bad_pixels_are_single_ones_or_lines_and_a_step_is_flat_on_either_side(only):
    only("bad pixels")
    for i in range(N):
        changed = render(i)[0] != render(i, structure=False)[0]
        assert 1 <= changed.sum() <= 12 * 4 + 2 * 101
    only("sky step")
    for i in range(N):
        step = render(i)[0] - render(i, structure=False)[0]
        level = median_filter(step, 15)  # of either side, without the noise of a shallower one
        assert 0.5 < np.ptp(level) < 13


def test_saturated_stars_are_cut_and_spikes_and_halo_reach_beyond_a_galaxy(only):
    only("star")
    cut = 0
    for i in range(20):
        pixels, truth = render(i)
        flat = (pixels > 0.9 * truth["peak_snr"]).sum()
        cut += flat > 20
        assert pixels.max() < 1.1 * truth["peak_snr"]
    assert cut >= 5


@pytest.mark.parametrize("kind", contaminants.KINDS)
def test_the_sky_keeps_its_noise(kind, only):
    only(kind)
    for i in range(4):
        below = render(i, P.model_copy(update={"noise_correlation": (0, 0)}))[0]
        assert (below < np.median(below) - 1).mean() > 0.05


def test_neighbours_are_cut_and_filled_with_the_rest(only):
    only("tile edge")
    p = P.model_copy(update={"neighbours": (8, 8)})
    for i in range(N):
        pixels, bare = render(i, p)[0], render(i, p, structure=False)[0]
        filled = pixels != bare
        assert len(np.unique(pixels[filled])) == 1
