"""Max-Tree segmentation of stamps (section 4.7): what is neither the lens nor close to it becomes zero.

8 bit, Gaussian, Max-Tree with filters, exponential decay, flood fill; what is left is a mask on the original pixels.
Each step is a field of `Settings`.  The tree is built by flooding (Nistér & Stewénius 2008): water flows into the
brightest dry pixel at its shore, and a component is complete, with its area and box, when it spills over.
"""

import importlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from joblib import cpu_count
from numba import njit
from numpy.typing import ArrayLike, NDArray

from lensdet.experiments import PRESETS, Settings

CHUNK = 32  # images a thread takes at once
SEED = 2  # row and column where the flood fill of the background starts
PACKAGES = ("iamxt", "siamxt")
PARENT, LEVEL, AREA, FIRST, LAST, LEFT, RIGHT = range(7)  # of a node: first and last pixel, left and right column

# Without Python's lock, so that threads run side by side; a division by 0 is infinite.
_compiled = njit(nogil=True, cache=True, error_model="numpy")
_u = np.uint64  # an index without a sign is not tested for counting from the end


def masks(
    images: ArrayLike, settings: Settings = PRESETS["text"], threads: int | None = None, engine: str = "own"
) -> NDArray[np.bool_]:
    """Which pixels the segmentation leaves.

    Parameters
    ----------
    images : array_like of float, (N, ny, nx)
        Stretched stamps in [0, 1], of at least 3 x 3 pixels; not changed.
    settings : Settings
    threads : int, optional
        All cores where not given.
    engine : {"own", "iamxt", "siamxt"}
        What builds and filters the tree: this module, or the thesis' package, in one thread, where it is installed.

    Returns
    -------
    bool array (N, ny, nx)

    Raises
    ------
    ValueError
        If the shape, the type, a pixel or a setting is not as above.
    ImportError
        If the package is not there or does not run here.
    """
    images = _shaped(np.asarray(images))
    if threads is not None and threads < 1:
        raise ValueError(f"threads are at least 1, not {threads}")
    result = np.empty(images.shape, bool)

    def chunk(start):
        piece = slice(start, start + CHUNK)
        result[piece] = _stages(_checked(images[piece], start), settings, engine)["mask"]

    starts = range(0, len(images), CHUNK)
    if threads == 1 or engine != "own":  # nobody has promised that the packages may be called from two threads
        list(map(chunk, starts))
    else:
        with ThreadPoolExecutor(threads or cpu_count()) as pool:
            list(pool.map(chunk, starts))
    return result


def segment(
    images: ArrayLike, settings: Settings = PRESETS["text"], threads: int | None = None, engine: str = "own"
) -> NDArray[np.float32]:
    """Stamps as float32 (N, ny, nx), zero where `masks` is False; all other pixels keep their values.

    The thesis reads as if the smoothed and dimmed image were used; the published runs took it as a mask, as here.
    Parameters and errors are those of `masks`.
    """
    return np.where(masks(images, settings, threads, engine), images, 0).astype(np.float32, copy=False)


def steps(image: ArrayLike, settings: Settings = PRESETS["text"], engine: str = "own") -> dict[str, NDArray]:
    """What each step makes of one stamp (ny, nx), for a figure; parameters and errors are otherwise those of `masks`.

    Returns a dict of arrays (ny, nx): uint8 ``eight_bit``, ``smoothed``, ``filtered``, ``decayed``, ``flood_filled``,
    bool ``mask`` and float32 ``segmented``.  A step that is left out shows what was there before it.
    """
    images = _checked(_shaped(np.asarray(image)[None]))
    stage = _stages(images, settings, engine)
    stage["flood_filled"] = np.where(stage["mask"], stage["decayed"], 0)
    stage["segmented"] = np.where(stage["mask"], images, 0).astype(np.float32)
    return {name: stack[0] for name, stack in stage.items()}


def filtered(images: ArrayLike, settings: Settings = PRESETS["text"], engine: str = "own") -> NDArray[np.uint8]:
    """The Max-Tree step alone, on 8-bit images: uint8 arrays (N, ny, nx), to and fro.

    Pixels of a discarded component fall to the level of the nearest kept one around it (direct rule); a component
    inside a discarded one may stay.  The root, the whole image, always stays: the background is the image's minimum.
    Parameters and errors are otherwise those of `masks`; of the settings those for components matter.
    """
    images = _shaped(np.ascontiguousarray(images))
    if images.dtype != np.uint8:
        raise ValueError(f"8-bit images are needed, of type uint8, not {images.dtype}")
    limits = _limits(settings)
    return _filter(images, *limits) if engine == "own" else _filter_by(_package(engine), images, limits)


def _shaped(images):
    if images.ndim != 3:
        raise ValueError(f"a stack (N, ny, nx) is needed, without an axis for channels, not {images.shape}")
    if min(images.shape[1:]) <= SEED:
        raise ValueError(f"images of at least {SEED + 1} x {SEED + 1} pixels are needed, not {images.shape[1:]}")
    return images


def _checked(images, start=0):
    if images.dtype.kind != "f":
        raise ValueError(f"stretched stamps in [0, 1] are needed, of a floating type, not {images.dtype}")
    good = (images.min((1, 2)) >= 0) & (images.max((1, 2)) <= 1)  # False for NaN
    if not good.all():
        bad = np.argmin(good)
        what = "NaN" if np.isnan(images[bad]).any() else "values outside [0, 1]"
        raise ValueError(f"image {start + bad} has {what}")
    return images


def _stages(stamps, settings, engine):
    """All stages of a stack, (N, ny, nx) each."""
    # In float64 the product of narrower types is exact, so that all are truncated alike.
    stage = {"eight_bit": np.multiply(stamps, 255, dtype=np.float64).astype(np.uint8)}
    stage["smoothed"] = _smooth(stage["eight_bit"]) if settings.smooth else stage["eight_bit"]
    stage["filtered"] = stage["decayed"] = filtered(stage["smoothed"], settings, engine)
    if settings.decay is not None:
        stage["decayed"] = _decay(stage["filtered"], settings.decay)
    stage["mask"] = stage["decayed"] > 0
    if settings.tolerance is not None:
        stage["mask"] &= ~_background(stage["decayed"], settings.tolerance)
    return stage


def _smooth(stack):
    """Binomial 5 x 5 Gaussian, truncated; zero beyond the frame."""
    x = np.pad(stack.astype(np.uint16), ((0, 0), (2, 2), (2, 2)))  # sums are at most 256 * 255
    x = x[:, :-4] + x[:, 4:] + 4 * (x[:, 1:-3] + x[:, 3:-1]) + 6 * x[:, 2:-2]
    x = x[..., :-4] + x[..., 4:] + 4 * (x[..., 1:-3] + x[..., 3:-1]) + 6 * x[..., 2:-2]
    return (x >> 8).astype(np.uint8)


def _decay(stack, alpha):
    """Eq. 4.3, truncated, about the true centre (50, 50) of 101 x 101 pixels."""
    if not alpha > 0:
        raise ValueError(f"decay is a positive number of pixels or None, not {alpha}")
    y, x = (np.arange(n) - (n - 1) / 2 for n in stack.shape[1:])
    return (stack * np.exp(-np.sqrt(y[:, None] ** 2 + x**2) / alpha)).astype(np.uint8)


def _background(stack, tolerance):
    """What a flood fill from the seed reaches, 8-connected: bool (N, ny, nx)."""
    near = np.abs(stack - stack[:, SEED, SEED, None, None].astype(np.int16)) <= tolerance
    dry = np.pad(near, ((0, 0), (1, 1), (1, 1)))
    _drain(dry)
    return near & ~dry[:, 1:-1, 1:-1]


def _limits(settings):
    """Least area, extents and least rectangularity, all inclusive; the area of the broken test, or NaN."""
    if settings.broken_rectangularity and settings.area is None:
        raise ValueError("the broken test of the rectangularity needs an area")
    strict = int(settings.strict)
    least = -1 if settings.area is None else settings.area + strict
    low, high = (-1, 2**31) if settings.box is None else (settings.box[0] + strict, settings.box[1] - strict)
    ratio = -1.0 if settings.rectangularity is None else float(settings.rectangularity)
    ratio = float(np.nextafter(ratio, np.inf)) if strict else ratio
    return least, low, high, ratio, float(settings.area) if settings.broken_rectangularity else np.nan


@_compiled
def _kept(area, dx, dy, least, low, high, ratio, broken):
    result = np.empty(len(area), np.bool_)
    for k in range(len(area)):
        box = dx[k] * dy[k]
        fits = (area[k] >= least) & (dx[k] >= low) & (dx[k] <= high) & (dy[k] >= low) & (dy[k] <= high)
        result[k] = fits & (area[k] / box >= ratio) & (not 0.9 <= broken / box <= 1.1)
    return result


@_compiled
def _filter(stack, least, low, high, ratio, broken):
    """Build the tree of each image, decide on its nodes, paint them from the root to the leaves."""
    n, ny, nx = stack.shape
    result = np.empty_like(stack)
    shift = 0  # rows are padded to a power of two: row and column of a pixel without a division
    while 1 << shift < nx + 2:
        shift += 1
    plane = np.full((ny + 2) << shift, -1, np.int32)
    ahead = np.empty(len(plane), np.int32)
    nodes = np.empty((7, ny * nx), np.int32)
    order = np.empty(ny * nx, np.int32)
    for i in range(n):
        for r in range(ny):
            for c in range(nx):
                plane[_u(((r + 1) << shift) + c + 1)] = stack[i, r, c]
        count = _flood(plane, shift, ahead, nodes, order)
        dx = nodes[RIGHT, :count] - nodes[LEFT, :count]
        dy = (nodes[LAST, :count] >> shift) - (nodes[FIRST, :count] >> shift)
        kept = _kept(nodes[AREA, :count], dx, dy, least, low, high, ratio, broken)
        for k in range(count - 2, -1, -1):  # the root comes last, and stays
            node = _u(order[k])
            if not kept[node]:
                nodes[LEVEL, node] = nodes[LEVEL, _u(nodes[PARENT, node])]
        for r in range(ny):
            for c in range(nx):
                result[i, r, c] = nodes[LEVEL, _u(-2 - plane[_u(((r + 1) << shift) + c + 1)])]
    return result


@_compiled
def _flood(plane, shift, ahead, nodes, order):
    """Max-Tree of one image, 8-connected.

    `plane` holds the grey levels of dry pixels, -1 for wet ones and the frame; in the end -2 - node.  Wet pixels that
    wait are a list for each level: `shore` is its head, `ahead` the one after each pixel, 0 the end.  `order` receives
    the nodes, children before parents.  Returns their number.
    """
    row = 1 << shift
    shore = np.zeros(256, np.int64)
    waiting = np.empty(256, np.int64)  # components interrupted by a brighter one, of rising level
    depth, count, done, node = 0, 1, 0, 0
    p = row + 1
    level = np.int64(plane[p])
    plane[p] = -1
    area, first, last, left, right = 0, p, p, row, 0
    while True:
        brighter = 0
        for q in (p + 1, p - 1, p + row - 1, p + row, p + row + 1, p - row - 1, p - row, p - row + 1):
            height = np.int64(plane[_u(q)])
            if height >= 0:
                plane[_u(q)] = -1
                if height > level:
                    brighter = q
                    break
                ahead[_u(q)] = shore[_u(height)]
                shore[_u(height)] = q
        if brighter:  # this pixel and its component wait
            ahead[_u(p)] = shore[_u(level)]
            shore[_u(level)] = p
            _note(nodes, _u(node), level, area, first, last, left, right)
            waiting[_u(depth)] = node
            depth += 1
            node, level, p = count, height, brighter
            count += 1
            area, first, last, left, right = 0, p, p, row, 0
            continue
        plane[_u(p)] = -2 - node
        area += 1
        column = p & (row - 1)
        first, last, left, right = min(first, p), max(last, p), min(left, column), max(right, column)
        if shore[_u(level)] == 0:  # the component is complete
            _note(nodes, _u(node), level, area, first, last, left, right)
            order[_u(done)] = node
            done += 1
            while level >= 0 and shore[_u(level)] == 0:
                level -= 1
            if level < 0:
                return count
            parent = _u(waiting[_u(depth - 1)]) if depth else _u(0)
            if depth and nodes[LEVEL, parent] == level:
                depth -= 1
                area, first, last, left, right = _joined(nodes, parent, area, first, last, left, right)
            else:  # a level that nothing waits on: a node with all that its child has, and more
                parent = _u(count)
                count += 1
            nodes[PARENT, _u(node)] = parent
            node = np.int64(parent)
        p = shore[_u(level)]
        shore[_u(level)] = ahead[_u(p)]


@_compiled
def _note(nodes, k, level, area, first, last, left, right):
    """Write down a component that waits or is complete."""
    nodes[LEVEL, k], nodes[AREA, k] = level, area
    nodes[FIRST, k], nodes[LAST, k], nodes[LEFT, k], nodes[RIGHT, k] = first, last, left, right


@_compiled
def _joined(nodes, k, area, first, last, left, right):
    """A component and one that waited, as noted, in one."""
    first, last = min(first, nodes[FIRST, k]), max(last, nodes[LAST, k])
    return area + nodes[AREA, k], first, last, min(left, nodes[LEFT, k]), max(right, nodes[RIGHT, k])


@_compiled
def _drain(dry):
    """Flood fill of padded images from the seed, run by run: what it reaches is no longer dry."""
    runs = np.empty((dry[0].size, 3), np.int64)  # row, first and last column
    for image in dry:
        runs[0] = SEED + 1  # the seed's neighbours are found as those of any run
        count = 1
        while count:
            count -= 1
            row, left, right = runs[count]
            for r in range(row - 1, row + 2):  # its own row, too: a run was cut where it was found
                c = left - 1
                while c <= right + 1:
                    start = c
                    while image[r, c]:
                        image[r, c] = False
                        c += 1
                    if c > start:
                        runs[count, 0], runs[count, 1], runs[count, 2] = r, start, c - 1
                        count += 1
                    c += 1


def _package(name):
    if name not in PACKAGES:
        raise ValueError(f"no engine named {name!r}; there are 'own', 'iamxt' and 'siamxt'")
    try:
        return importlib.import_module(name)
    except Exception as error:  # an old package fails with whatever it meets first
        raise ImportError(
            f"{name}, the Max-Tree toolbox of Souza et al. (2017), cannot be imported ({error}).  It is on no package "
            f"index and does not run with today's NumPy, see https://github.com/rmsouza01/{name}; engine='own' "
            "computes the same."
        ) from error


def _filter_by(package, stack, limits):
    result = np.empty_like(stack)
    for image, filtered_image in zip(stack, result, strict=True):
        tree = package.MaxTreeAlpha(image, np.ones((3, 3), bool))
        # rows of its table: 3 is the area, 6 and 7 the first and last row, 9 and 10 the first and last column
        area, top, bottom, left, right = tree.node_array[[3, 6, 7, 9, 10]].astype(np.int64)
        tree.contractDR(_kept(area, right - left, bottom - top, *limits))  # which keeps the root
        filtered_image[:] = tree.getImage()
    return result
