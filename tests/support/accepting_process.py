"""A process that accepts questionnaires without end and writes a line for each once it is acknowledged.

Arguments: the queue's folder, the number to begin with. It is meant to be killed.
"""

import itertools
import sys
from pathlib import Path

from tests.support.device import Authority, Device


def main(folder: str, first: int) -> None:
    device = Device(Path(folder), Authority()).start()
    device.link_up(window=2)
    for number in itertools.count(first):
        size = 1 if number % 7 else 400_000
        accepted = device.submit(str(number), b"%d" % number * size)
        sys.stdout.write(f"{number} {accepted.epoch} {accepted.first_sequence} {accepted.last_sequence}\n")
        sys.stdout.flush()
        for send in device.tick():
            device.settle(send, taken=bool(number % 3))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
