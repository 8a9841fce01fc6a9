"""FITS files opened for `astropy.io.fits.open`, plain or packed, with their headers checked before it believes them.

One that says the impossible would have astropy take all memory, or time without end; here it raises `HeaderError`.
"""

import bz2
import gzip
import io
import lzma
import os
import re
from itertools import count

from astropy.io import fits

# Cards by which astropy or wcslib make lists and tables, before any pixel is read, and the most that they may say: the
# FITS standard 4.0 allows NAXIS and TFIELDS up to 999 (4.4.1, 7.3.1), axes of a WCS up to 99, and SIP an order up to 9.
_AXES = 99
_MOST = dict.fromkeys(("NAXIS", "ZNAXIS", "TFIELDS"), 999)
_MOST |= dict.fromkeys(("WCSAXES", "A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER"), _AXES)
_SIZE = re.compile(r"Z?NAXIS\d+|PCOUNT|GCOUNT")
_LARGEST = 10**15  # of a size: a million gigabytes
# What need not be parsed, which takes 0.1 ms a card.
_USUAL = re.compile(rb"(?:Z?NAXIS\d+|[PG]COUNT) *= *\d{1,15} *(?:/.*)?|[^=]*= *\d{1,2} *(?:/.*)?", re.DOTALL)
_HEADER_BLOCKS = 1000  # 36,000 cards; astropy takes time by the square of them


class HeaderError(Exception):
    """A header that breaks the standard; no ValueError and no OSError, which astropy takes for the end of the file."""


class _Unpacked:
    """A packed file that moves only where it is read: astropy looks to and fro, and a step back unpacks all anew."""

    wanted = here = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            self.wanted = self.here = super().seek(offset, whence)
        else:
            self.wanted = offset + (self.wanted if whence == os.SEEK_CUR else 0)
        return self.wanted

    def tell(self) -> int:
        return self.wanted

    def read(self, size: int | None = -1) -> bytes:
        if self.wanted != self.here:
            super().seek(self.wanted)
        data = super().read(size)
        self.here = self.wanted = self.wanted + len(data)
        return data


class _HeadersChecked:
    """What a file adds, so that headers are looked at block by block as astropy reads them, before it believes them.

    NAXIS or TFIELDS of some billions would have it make lists until memory is gone; so would a header without end, or,
    in a gzipped file, an HDU of no known size (SIMPLE = F), after which astropy begins again at the first.
    """

    blocks = last = 0  # of a header, read one after the other; where that ended
    begun = 0  # how often the first was read: twice where astropy turns to its other parser

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if size == 2880 and data:  # as headers are read; pixels that are read so hardly look like one of the cards
            here = self.tell()
            self.blocks = self.blocks + 1 if here == self.last + 2880 else 1
            self.last = here
            self.begun += data.startswith(b"SIMPLE")
            if self.begun > 2:
                raise HeaderError("an HDU of no known size, SIMPLE = F or a card that cannot be parsed")
            if self.blocks > _HEADER_BLOCKS:
                # After the first HDU astropy takes a ValueError for bytes that are no HDU, and do no harm.
                kind = HeaderError if here == 2880 * self.blocks else ValueError
                raise kind(f"no END in the first {_HEADER_BLOCKS} blocks of a header")
            check_block(data)
        return data


class _PlainChecked(_HeadersChecked, io.BufferedReader):
    pass


class _UnpackedChecked(_HeadersChecked, _Unpacked):
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.last = -1  # rows of pixels are read by this class, too, and are no header without end
        return super().seek(offset, whence)


class _Gzip(_UnpackedChecked, gzip.GzipFile):
    pass


class _Bzip2(_UnpackedChecked, bz2.BZ2File):
    pass


class _Xz(_UnpackedChecked, lzma.LZMAFile):
    pass


_PACKED = {b"\x1f\x8b": _Gzip, b"BZ": _Bzip2, b"\xfd7": _Xz}  # by the first two bytes


def packed(file: io.IOBase) -> bool:
    """Whether a file from `open_checked` is unpacked as it is read."""
    return isinstance(file, _Unpacked)


def open_checked(path: str | os.PathLike) -> io.BufferedIOBase:
    """Open a FITS file, plain or packed, for `astropy.io.fits.open`, which then meets no impossible header.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    file object
        To read from; a `gzip.GzipFile`, `bz2.BZ2File` or `lzma.LZMAFile` where the file's first bytes say so, whatever
        its name.  Reading raises `HeaderError`, see `check_block`.
    """
    path = os.fspath(path)
    file = _PlainChecked(io.FileIO(path))
    begins = file.read(2)
    if begins in _PACKED:
        file.close()
        return _PACKED[begins](path)
    file.seek(0)
    return file


def check_block(block: bytes) -> None:
    """Raise HeaderError where a block of a FITS header says what no header can.

    Parameters
    ----------
    block : bytes
        2880 bytes.

    Raises
    ------
    HeaderError
        NAXIS, ZNAXIS or TFIELDS are no whole number from 0 to 999; NAXISn, ZNAXISn, PCOUNT or GCOUNT none from 0 to
        1e15; or WCSAXES or the order of a SIP polynomial is above 99.
    """
    text = block.rstrip().upper()
    for word in (b"NAXIS", b"TFIELDS", b"COUNT", b"WCSAXES", b"_ORDER"):
        at = text.find(word)
        while at >= 0:
            start, end = at // 80 * 80, at // 80 * 80 + 80
            # The last card of a short block may be cut off: that is for astropy to say.
            if end <= len(block) and not _USUAL.fullmatch(text, start, end):
                _check_card(text[start:end].decode("latin-1"))
            at = text.find(word, end)


def _check_card(image):
    card = fits.Card.fromstring(image)
    keyword = card.keyword.strip()
    known = "WCSAXES" if keyword.startswith("WCSAXES") else keyword  # that of another WCS ends in a letter
    most = _LARGEST if _SIZE.fullmatch(keyword) else _MOST.get(known)
    if most is None:
        return
    try:
        value = card.value
    except fits.VerifyError:  # astropy can make nothing of it either
        return
    whole = type(value) is int and value >= 0
    # WCSAXES and orders may be wrong in other ways: wcslib passes over them.
    if (isinstance(value, int | float) and value > most) or not (whole or most == _AXES):
        raise HeaderError(f"{keyword} = {image.partition('=')[2].partition('/')[0].strip()}, not 0 to {most}")


def check_compressed(hdu: fits.CompImageHDU, file: io.BufferedIOBase) -> None:
    """Raise HeaderError where a header has astropy's C code write or read beyond the memory of a tile.

    Parameters
    ----------
    hdu : astropy.io.fits.CompImageHDU
    file : file object
        From `open_checked`, of which it is an HDU.

    Raises
    ------
    HeaderError
        BYTEPIX or BLOCKSIZE of Rice's algorithm, or the seed of dithering, is none of the FITS standard 4.0 (10.4.1,
        10.2).
    """
    where = hdu.fileinfo()
    file.seek(where["hdrLoc"])
    header = fits.Header.fromstring(file.read(where["datLoc"] - where["hdrLoc"]).decode("latin-1"))
    given = {}
    for i in count(1):  # as astropy looks for them: the first of a name, up to the first number that is missing
        if f"ZNAME{i}" not in header:
            break
        given.setdefault(str(header[f"ZNAME{i}"]).upper(), header.get(f"ZVAL{i}"))
    allowed = {"ZDITHER0": (header.get("ZDITHER0", 1), range(10001))}
    if str(header.get("ZCMPTYPE")).startswith("RICE"):
        allowed["BYTEPIX"] = given.get("BYTEPIX", 4), (1, 2, 4, 8)
        allowed["BLOCKSIZE"] = given.get("BLOCKSIZE", 32), range(1, 65536)
    for name, (value, values) in allowed.items():
        if type(value) is not int or value not in values:
            raise HeaderError(f"{name} = {value}, which no compressed image has")
