"""What reads a unit in a worker process, but for a file that kills the process and one that takes for ever."""

import os
import time

from lensdet.survey.reading import read as read_others


def read(unit):
    if any(i.endswith("kills.fits") for i in unit.ids):
        os._exit(1)
    if any(i.endswith("hangs.fits") for i in unit.ids):
        time.sleep(1000)
    return read_others(unit)
