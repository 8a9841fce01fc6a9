"""Objects that look like lenses and are none: arms, rings, tails, shells, companions that lie as arcs do.

Structure that lies around a galaxy is as faint as arcs of mock lenses are, and wide enough for the stamp's PSF to show
it.  Lengths are in arcsec, angles in degrees; "log-uniform" is named where it is meant, other ranges are uniform.
"""

import numpy as np

from lensdet.data.light import SIZE
from lensdet.data.scene import Scene, Structure, patches, wobble


def spiral(s: Scene) -> Structure:
    """Arms that are logarithmic spirals, from grand design to flocculent, with knots; around the galaxy, or a bulge.

    Arms 2 (three in five), 3 or 4; pitch 8 to 35; axis ratio 0.35 to 1.  Radius log-uniform from where adjacent arms
    are 1.8 FWHM apart (at least 2 FWHM, 0.8 and 0.6 of the galaxy's) to 0.6 of half a stamp; arms that would find no
    room are drawn again.  Share of flocculence 0 to 1 (half: below 0.3); arms as sharp as the 1st to 3rd power of a
    cosine; hole 0.3 to 0.9 and scale length 0.4 to 1 of the radius, end at 1.2 to 2.5; a third have a bar of 0.4 to
    0.8 of the radius; knots 0 to 30, up to the arms' peak.  Strength 0.02 to 0.5 of the galaxy's peak.  Two in five are
    spirals throughout: a bulge of 0.06 to 0.25 of the radius, and arms of 0.15 to 3 of its peak (log-uniform) on a
    disc of 0.2 to 1.5 of theirs.  Arms around a galaxy have a peak of 4 sigma at least, or 0.5 of its own.
    """
    rng = s.rng
    for _ in range(30):
        arms, pitch, ratio = int(rng.choice([2, 2, 2, 3, 4])), np.deg2rad(rng.uniform(8, 35)), rng.uniform(0.35, 1)
        apart = np.exp(2 * np.pi * np.tan(pitch) / arms) - 1
        least = max(
            1.8 * s.fwhm / (apart * np.sqrt(ratio)), 2 * s.fwhm, 0.8, 0.6 * min(s.galaxy["radius"], 0.4 * s.half)
        )
        if least < 0.5 * s.half:
            break
    radius, angle = s.log(least, 0.6 * s.half), s.galaxy["angle"] + rng.normal(0, 15)
    r, theta = s.plane(ratio, angle, s.galaxy["x"], s.galaxy["y"])
    hole, bar, bar_angle = radius * rng.uniform(0.3, 0.9), radius * rng.uniform(0.4, 0.8), rng.uniform(0, np.pi)
    barred = rng.random() < 1 / 3
    depth = np.log(np.maximum(r, 0.05) / radius)
    turn = (theta - bar_angle - (depth - np.log(bar / radius)) / np.tan(pitch)) / (2 * np.pi)
    bent, rough = patches(rng, turn, depth, (3, 2)), patches(rng, turn, depth, (int(rng.integers(6, 14)), 3))
    crest = (0.5 + 0.5 * np.cos(2 * np.pi * arms * turn + rng.uniform(0.2, 1.0) * bent)) ** rng.uniform(1, 3)
    crest *= np.exp(rng.uniform(0.2, 0.7) * rough) * (
        1 + rng.uniform(0, 0.5) * np.cos(theta - rng.uniform(0, 2 * np.pi))
    )
    flocculence = rng.uniform(0, 0.3) if rng.random() < 0.5 else rng.uniform(0.3, 1)
    texture = (1 - flocculence) * crest + flocculence * np.exp(1.2 * rough) / 2.5
    length = radius * rng.uniform(0.4, 1.0)
    inner = 1 - np.exp(-((r / (max(hole, 0.8 * bar) if barred else hole)) ** 3))
    outer = 1 / (1 + np.exp((r / radius - rng.uniform(1.2, 2.5)) / 0.15))
    lit = s.unit(texture * inner * outer * np.exp(-r / length))
    lit = lit + rng.uniform(0, 1) * s.knots(lit * (lit > 0.3 * lit.max()), rng.integers(0, 31))
    if barred:
        along, across = r * np.cos(theta - bar_angle), r * np.sin(theta - bar_angle)
        oval = np.hypot(along / bar, across / (bar * rng.uniform(0.2, 0.4)))
        lit = lit + rng.uniform(0.3, 1.2) * s.unit(np.exp(-((oval / 0.8) ** 3)))
    if rng.random() < 0.6:
        return Structure(light=s.strength(sigma=4) * s.unit(lit))
    disc = rng.uniform(0.2, 1.5) * s.unit(np.exp(-r / length))
    bulge = s.sersic(
        radius * rng.uniform(0.06, 0.25), rng.uniform(1, 4), ratio**0.5, angle, s.galaxy["x"], s.galaxy["y"]
    )
    return Structure(light=bulge + s.log(0.15, 3) * s.unit(lit + disc), host=0.0)


def ring(s: Scene) -> Structure:
    """A ring, inclined, off-centre, uneven and broken, or what passes for one: arms wound tightly.

    Radius log-uniform from 1.3 FWHM (at least 0.8, and 0.8 of the galaxy's) to half of half a stamp; axis ratio 0.4 to
    1; centre off by up to 0.15 radii (collisional: 0.1 to 0.5, with an intruder at 1.2 to 3 radii in two of three);
    width 0.05 to 0.3 radii, the outer edge 1 to 3 times as sharp; out of round by up to 0.12; brightness along it over
    a factor of e in either way, half with gaps; knots 0 to 25; a quarter with 4 to 11 spokes; inner disc up to 0.8 of
    the ring.  A quarter are pseudo-rings: two arms of pitch 3 to 9 that overlap.  Strength 0.02 to 0.5 of the galaxy's
    peak, 4 sigma at least.
    """
    rng = s.rng
    radius, ratio = (
        s.log(max(1.3 * s.fwhm, 0.8, 0.8 * min(s.galaxy["radius"], 0.4 * s.half)), 0.5 * s.half),
        rng.uniform(0.4, 1),
    )
    collisional, angle = rng.random() < 0.3, rng.uniform(0, 180)
    away = radius * (rng.uniform(0.1, 0.5) if collisional else rng.uniform(0, 0.15)) * np.exp(2j * np.pi * rng.random())
    r, theta = s.plane(ratio, angle, away.real, away.imag)
    rim, width = radius * (1 + rng.uniform(0, 0.12) * wobble(rng, theta, 4)), radius * rng.uniform(0.05, 0.3)
    if rng.random() < 0.25:  # the two arms start opposite each other and are a turn or so long
        pitch, reach = np.tan(np.deg2rad(rng.uniform(3, 9))), rng.uniform(3, 5)
        image = 0.0
        for start in rng.uniform(0, 2 * np.pi) + np.array([0, np.pi]):
            along = (theta - start) % (2 * np.pi)
            for run in (along, along + 2 * np.pi):
                arm = np.exp(-0.5 * ((r - rim * np.exp(pitch * (run - np.pi))) / width) ** 2 / (0.3 + 0.7 * ratio))
                image = image + arm / (1 + np.exp((run - reach) / 0.3))
    else:
        across = (r - rim) / width
        image = np.exp(-0.5 * np.where(across > 0, across * rng.uniform(1, 3), across) ** 2)
    image = image * np.exp(rng.uniform(0.2, 1.0) * wobble(rng, theta, 6))
    if rng.random() < 0.5:
        image = image / (1 + np.exp(-6 * (wobble(rng, theta, 4) + rng.uniform(-0.3, 1.0))))
    image = s.unit(image) + rng.uniform(0, 1.2) * s.knots(image + 1e-9, rng.integers(0, 26))
    inside = 1 / (1 + np.exp((r - rim) / (0.1 * radius)))
    if rng.random() < 0.25:
        spokes = np.cos(rng.integers(4, 12) / 2 * (theta + rng.uniform(-1, 1) * r / radius) + wobble(rng, theta, 3))
        image = image + rng.uniform(0.1, 0.6) * inside * spokes**8
    image = image + rng.uniform(0, 0.8) * (rng.random() < 0.5) * inside * np.exp(-r / (radius * rng.uniform(0.3, 0.8)))
    lit = s.strength(sigma=4) * s.unit(image)
    if collisional and rng.random() < 2 / 3:
        at = radius * rng.uniform(1.2, 3) * np.exp(2j * np.pi * rng.random())
        lit = lit + s.log(0.1, 1) * small(s, at.real, at.imag)
    return Structure(light=lit)


def merger(s: Scene) -> Structure:
    """A second nucleus with tails, a bridge or shells; one in four shows those around the galaxy alone.

    Distance log-uniform from 0.9 FWHM (at least 0.6) to 5; peak 0.1 to 1 of the galaxy's (log-uniform).  Tails (in 65
    %) 1 to 3, of 2 to 9 and no longer than 0.9 of half a stamp, turning by 0.3 rad at most (one in three) or 0.5 to 3,
    0.15 to 0.5 wide where they start, one in four of them detached; a bridge in four of ten pairs; in a third an
    envelope of sigma 0.6 to 2, 0.3 to 2 off; together of strength 0.02 to 0.5 of the galaxy's peak, 3 sigma at least.
    Shells (in 45 %) of 0.02 to 0.2.
    """
    rng = s.rng
    gap, azimuth = s.log(max(0.9 * s.fwhm, 0.6), min(5, 0.7 * s.half)), rng.uniform(0, 2 * np.pi)
    nuclei = np.array([0j, gap * np.exp(1j * azimuth)])
    alone, image = rng.random() < 0.25, 0.0
    shells, tails = [(1, 0), (0, 1), (1, 1)][int(np.searchsorted([0.35, 0.9], rng.random()))]
    if tails:
        for side in range(rng.integers(1, 4)):
            start = nuclei[0 if alone else side % 2]
            if rng.random() < 0.25:
                start = gap * rng.uniform(0.6, 1.6) * np.exp(2j * np.pi * rng.random())
            length = s.log(min(2, 0.5 * s.half), min(9, 0.9 * s.half))
            bend = rng.uniform(-0.3, 0.3) if rng.random() < 1 / 3 else rng.choice([-1, 1]) * rng.uniform(0.5, 3)
            heading = azimuth + np.pi * (side % 2 == 0) + rng.normal(0, 0.8)
            tail = s.stroke(start.real, start.imag, heading, length, bend, rng.uniform(0.15, 0.5), rng.uniform(0.3, 2))
            image = image + rng.uniform(0.3, 1) * tail
    if not alone and rng.random() < 0.4:
        bend = rng.normal(0, 0.8)
        bridge = s.stroke(0, 0, azimuth - bend / 2, gap * 1.05, bend, rng.uniform(0.15, 0.35), 0)
        image = image + rng.uniform(0.3, 1) * bridge
    if rng.random() < 1 / 3:
        away = rng.uniform(0.3, 2) * np.exp(2j * np.pi * rng.random())
        envelope = s.unit(s.dots(away.real, away.imag, rng.uniform(0.6, 2), 1.0))
        image = image + rng.uniform(0.2, 1) * envelope
    image = s.strength(sigma=3) * s.unit(image)
    if shells:
        image = image + s.strength(0.02, 0.2) * s.unit(_shells(s))
    if not alone:
        x, y = nuclei[1].real, nuclei[1].imag
        image = image + s.log(0.1, 1) * s.sersic(
            s.log(0.2, 1.2), rng.uniform(1, 4), rng.uniform(0.4, 1), rng.uniform(0, 180), x, y
        )
    return Structure(light=image)


def _shells(s):
    """Arcs about the galaxy, 2 to 6, on alternate sides, sharp outside and fading inwards.

    Radii 1 to 0.75 of half a stamp, 20 to 80 degrees to either side of the axis; axis ratio 0.6 to 1.
    """
    rng = s.rng
    r, theta = s.plane(rng.uniform(0.6, 1), rng.uniform(0, 180), s.galaxy["x"], s.galaxy["y"])
    image = np.zeros((SIZE, SIZE))
    radii = np.exp(rng.uniform(*np.log([min(1, 0.3 * s.half), 0.75 * s.half]), rng.integers(2, 7)))
    for i, radius in enumerate(np.sort(radii)):
        opening, fade = np.deg2rad(rng.uniform(20, 80)), radius * rng.uniform(0.05, 0.3)
        off = np.abs((theta + np.pi * (i % 2) + rng.normal(0, 0.1) + np.pi) % (2 * np.pi) - np.pi)
        shell = np.exp(np.minimum(r - radius, 0) / fade) / (1 + np.exp((r - radius) / (0.3 * s.scale)))
        image += rng.uniform(0.4, 1) * shell / (1 + np.exp((off - opening) / 0.12)) / radius
    return image


def edge_on(s: Scene) -> Structure:
    """A disc seen from its edge, with a dust lane or without; or beside the galaxy and across its radius, as an arc is.

    Half are the object itself: scale length log-uniform from 0.8 to 3, thickness 0.08 to 0.25 of it and at least 0.3
    FWHM, bulge up to 0.9 of the whole, half bent by up to 0.02 of a length at one length.  Three in five of these have
    a lane that takes 60 to 100 % of the light, its width 0.25 to 0.6 of the disc's, off the middle by up to 0.4 of
    that; their discs are thicker than 0.5 to 1 FWHM, so that it is seen.  The others lie at 1 FWHM (at least 1) to 5
    from the galaxy, log-uniform, across the radius within 20 degrees (one sigma), scale length 0.4 to 1.2, bent by up
    to 0.1, strength 0.02 to 1.
    """
    rng = s.rng
    beside, azimuth = rng.random() < 0.5, rng.uniform(0, 360)
    away = s.log(max(s.fwhm, 1), min(5, 0.6 * s.half)) if beside else 0.0
    length = s.log(0.4, 1.2) if beside else s.log(0.8, min(3, 0.3 * s.half))
    x, y = away * np.cos(np.deg2rad(azimuth)), away * np.sin(np.deg2rad(azimuth))
    along, across = s.turned(azimuth + 90 + rng.normal(0, 20), x, y)
    thick = length * rng.uniform(0.08, 0.25)
    lane = not beside and rng.random() < 0.6
    if not beside:
        thick = max(thick, s.fwhm * (rng.uniform(0.5, 1.0) if lane else 0.3))
        length = max(length, 2.5 * thick)
    warp = rng.uniform(-1, 1) * (0.1 if beside else 0.02)
    across = across + warp * along**2 / length * (rng.random() < 0.5 or beside)
    fall = np.exp(-2 * np.abs(across) / thick)
    image = s.unit(np.exp(-np.hypot(along, 0.2 * s.scale) / length) * fall / (1 + fall) ** 2)  # sech squared
    if beside:
        return Structure(light=s.strength(0.02, 1) * image)
    image = image + rng.uniform(0, 0.9) * s.sersic(
        length * rng.uniform(0.1, 0.4), rng.uniform(1, 4), rng.uniform(0.5, 1), azimuth + 90, 0, 0
    )
    if lane:
        width, middle = thick * rng.uniform(0.25, 0.6), thick * rng.uniform(-0.4, 0.4)
        dust = np.exp(-0.5 * ((across - middle) / width) ** 2) * np.exp(-((along / (2.5 * length)) ** 4))
        image = image * (1 - rng.uniform(0.6, 1.0) * dust)
    return Structure(light=image, host=0.0)


def companions(s: Scene) -> Structure:
    """Small galaxies and stars close by, 1 to 4, at 0.8 to 4 (log-uniform); a third lie as images of a source would.

    Peaks 0.02 to 1 of the galaxy's, log-uniform.  Those that lie like images are 2 to 4 of about one brightness, at
    one radius within 10 %, thin (axis ratio 0.2 to 0.6) and across the radius within 15 degrees; one in four of them
    are stars, as of a quasar.
    """
    rng = s.rng
    alike, image = rng.random() < 1 / 3, 0.0
    common, radius = s.strength(0.02, 1), s.log(max(0.8, 0.8 * s.fwhm), min(4, 0.6 * s.half))
    stars = rng.random() < 0.25
    for _ in range(rng.integers(2, 5) if alike else rng.integers(1, 5)):
        azimuth = rng.uniform(0, 2 * np.pi)
        away = radius * rng.normal(1, 0.1) if alike else s.log(0.8, min(4, 0.6 * s.half))
        x, y = away * np.cos(azimuth), away * np.sin(azimuth)
        if alike:
            tilt = np.rad2deg(azimuth) + 90 + rng.normal(0, 15)
            image = image + common * rng.uniform(0.4, 1) * small(s, x, y, tilt, (0.2, 0.6), float(stars))
        else:
            image = image + s.strength(0.02, 1) * small(s, x, y)
    return Structure(light=image)


def small(s, x, y, tilt=None, ratio=(0.3, 1.0), star=0.2):
    """A galaxy of radius 0.15 to 0.8 (log-uniform) and Sersic index 0.7 to 4, or a star; its peak 1 after the PSF."""
    if s.rng.random() < star:
        return s.unit(s.dots(x, y, 0.0, 1.0))
    angle = s.rng.uniform(0, 180) if tilt is None else tilt
    return s.sersic(s.log(0.15, 0.8), s.rng.uniform(0.7, 4), s.rng.uniform(*ratio), angle, x, y)


def faint(s: Scene) -> Structure:
    """A faint source in the centre, its peak 3 to 10 sigma: a galaxy or a star, one in three with 1 to 2 more beside.

    The others are 0.5 to 1 as bright, at 0.6 to 3.
    """
    rng = s.rng
    image = small(s, *rng.uniform(-0.4, 0.4, 2))
    for _ in range(rng.integers(1, 3) * (rng.random() < 1 / 3)):
        at = rng.uniform(0.6, min(3, 0.6 * s.half)) * np.exp(2j * np.pi * rng.random())
        image = image + rng.uniform(0.5, 1) * small(s, at.real, at.imag)
    return Structure(light=image, host=0.0, brightness=rng.uniform(3, 10) / s.galaxy["peak_snr"])


def off_centre(s: Scene) -> Structure:
    """A galaxy of any radius, index and axis ratio of the survey, 1.5 to 6 from the centre (0.7 of half a stamp)."""
    g, rng = s.galaxy, s.rng
    at = rng.uniform(min(1.5, 0.3 * s.half), min(6, 0.7 * s.half)) * np.exp(2j * np.pi * rng.random())
    image = s.sersic(g["radius"], g["sersic"], g["axis_ratio"], g["angle"], at.real, at.imag)
    return Structure(light=image, host=0.0)
