"""FITS files damaged at random: each is used or named, soon, and none takes the memory."""

import bz2
import faulthandler
import gzip
import itertools
import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from lensdet.data.stamps import Rejection, StampError, read_stamps
from lensdet.survey.cutouts import plan_folder, plan_tiles
from tests.survey import cases
from tests.survey.cases import DEC, RA, galaxy, image, sky

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by what Linux says of it")

SECONDS = 30  # for a file, read in three ways; some 0.05 are needed
MEMORY = 256 << 20  # bytes, more than the whole files take
VALUES = (
    "0 -1 1 2 3 8 101 999 1000 -32 65536 1000000 3000000000 99999999999999999999 1E308 1e-320 NaN INF T F (1,2) 0x10"
)
VALUES = [*VALUES.split(), "", "'x'", "'3000000000D'", "'1PE(3000000000)'", "'RA---TAB'", "'lookup'", "2.5", "'2'"]
KEYWORDS = (
    "NAXIS NAXIS1 NAXIS2 BITPIX BSCALE BZERO BLANK PCOUNT GCOUNT GROUPS EXTEND ZIMAGE ZNAXIS ZTILE1 TFIELDS XTENSION"
)
KEYWORDS += (
    " CTYPE1 CRVAL1 CD1_1 CRPIX1 WCSAXES A_ORDER PV1_1 FILTER BANDS EXTNAME CONTINUE HIERARCH END DATASUM CHECKSUM"
)


def whole():
    """The files that are damaged, by the end of their names."""
    counts = np.round(galaxy() * 50).astype("i2")
    table = fits.BinTableHDU.from_columns([fits.Column("ra", "D", array=[RA])])
    after = cases.content(fits.PrimaryHDU(), table, fits.ImageHDU(galaxy(), sky()))
    cube = np.stack([galaxy(seed=k) for k in range(3)])
    sip = {"projection": "TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-7}
    return {
        "plain.fits": image(header=sky(**sip)),
        "large.fits": image(galaxy((130, 140), scale=0.25), sky((130, 140), 0.25)),
        "integers.fits": image(counts, sky(BLANK=-32768), checksum=True),
        "gzipped.fits.gz": gzip.compress(image()),
        "bzipped.fits.bz2": bz2.compress(image()),
        "after.fits": after,
        "cube.fits": image(cube, sky(BANDS="grz", without=("FILTER",))),
        "rice.fits.fz": cases.packed(),
        "gzip.fits.fz": cases.packed(kind="GZIP_2", quantize_level=0),
        "lsst.fits": cases.lsst(),
        "ccds.fits.fz": cases.extensions(("S1", galaxy(), sky()), ("S2", galaxy(), sky(ra=30)), compressed=True),
    }


def damaged(content, rng):
    """A file with one to three faults: of bytes, of blocks, of cards; some before they are zipped again."""
    unpacked = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    if unpacked is not content and rng.random() < 0.7:
        return gzip.compress(damaged(unpacked, rng), 1)
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        size = len(data)
        if size < 200:
            break
        heads = [at for at in range(0, size, 2880) if data[at : at + 8] in (b"SIMPLE  ", b"XTENSION")] or [0]
        start = rng.choice(heads)
        cards = max(2, (data.find(b"END" + b" " * 77, start) - start) // 80)
        card, other = (min(start + 80 * rng.randrange(cards), size - 80) for _ in range(2))
        block, to = (2880 * rng.randrange(size // 2880 + 1) for _ in range(2))
        match rng.choice(
            ["value"] * 5 + ["keyword", "card", "bytes", "head", "cut", "blank", "copy", "drop", "put", "end"]
        ):
            case "value":
                data[card + 8 : card + 80] = f"= {rng.choice(VALUES):>20}".ljust(72).encode()
            case "keyword":
                data[card : card + 8] = rng.choice(KEYWORDS.split()).ljust(8).encode()
            case "card":
                data[card : card + 80] = data[other : other + 80]
            case "bytes":
                for _ in range(rng.randint(1, 200)):
                    data[rng.randrange(size)] = rng.randrange(256)
            case "head":
                for _ in range(rng.randint(1, 8)):
                    data[min(size - 1, start + rng.randrange(2880))] = rng.randrange(256)
            case "cut":
                del data[rng.randrange(size) :]
            case "blank":
                at, n = rng.randrange(size), rng.choice([80, 2880, 20000])
                data[at : at + n] = rng.choice([b"\0", b"\xff", b" "]) * min(n, size - at)
            case "copy":
                data[to:to] = data[block : block + 2880]
            case "drop":
                del data[block : block + 2880]
            case "put":
                at = rng.randrange(size)
                data[at:at] = rng.randbytes(rng.choice([1, 80, 2880]))
            case "end":
                at = data.find(b"END" + b" " * 77, start)
                data[at : at + 3] = b"   "
    return bytes(data)


def read_each(folder: str, seed: str, number: str) -> None:
    """Read each file in three ways, and print what comes of it; end at one that hangs, which is left in the folder."""
    rows = cases.catalogue(Path(folder, "c.csv"), {"in": (RA, DEC), "beside": (RA + 5e-5, DEC), "off": (30.0, DEC)})
    alone = Path(folder, "stamps")
    alone.mkdir()
    warnings.simplefilter("ignore")
    rng, of_whole = random.Random(int(seed)), whole()
    names = [
        *of_whole,
        *(f"{k}_{name}" for k, name in zip(range(int(number)), itertools.cycle(of_whole), strict=False)),
    ]
    for k, name in enumerate(names):
        content = of_whole.get(name) or damaged(of_whole[name.split("_", 1)[1]], rng)
        if k == len(of_whole):  # everything is imported that is needed
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY,) * 2)
        path = alone / name
        path.write_bytes(content)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        used, left = cases.outcome(plan_folder(alone))
        assert used.keys() | left.keys() == {name}
        assert all(stamp.pixels.shape == (101, 101) for stamp in used.values())
        said = {"folder": [r.reason for r in left.values()]}
        got = read_stamps([path], workers=1, description=None)
        assert len(got.paths) + len(got.rejections) == 1
        rejections = [*left.values(), *got.rejections]
        try:
            plan = plan_tiles(rows, path)
        except StampError as error:
            rejections.append(Rejection(*error.args))
            said["tile"] = [error.reason]
        else:
            used, left = cases.outcome(plan)
            assert used.keys() | left.keys() == {"in", "beside", "off"}
            rejections += left.values()
            said["tile"] = [r.reason for r in left.values()]
        wcslib = "MemoryError: Memory allocation error:"  # what it says of RA---TAB without a table
        said["memory"] = [r for r in rejections if "MemoryError" in r.detail and wcslib not in r.detail]
        print(json.dumps({name: said}), flush=True)
        path.unlink()


@pytest.mark.parametrize(
    ("seed", "number"),
    [(1, 200), *(pytest.param(seed, 5000, marks=[pytest.mark.slow, pytest.mark.timeout(6000)]) for seed in (2, 3))],
)
def test_damaged_files_are_used_or_named_and_none_hangs(tmp_path, seed, number):
    code = "import sys; from tests.survey.test_fuzz import read_each; read_each(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(tmp_path), str(seed), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, (os.listdir(tmp_path / "stamps"), done.stderr[-3000:])
    said = {}
    for line in done.stdout.splitlines():
        said |= json.loads(line) if line.startswith("{") else {}  # astropy prints, too
    of_whole = whole()
    assert len(said) == len(of_whole) + number
    for name in of_whole:
        expected = (["shape"], []) if "ccds" in name else ([], ["off the tiles"])  # CCDs of two places are no stamp
        assert (said[name]["folder"], said[name]["tile"]) == expected
    assert [of["memory"] for of in said.values() if of["memory"]] == []
    assert 0.3 < sum(bool(of["folder"]) for of in said.values()) / number < 0.9  # neither all spoilt nor none
