r"""Named fields instead of an array: the input is a JSON text, and so is the output.

clipper-nomad up --local
clipper-nomad deploy examples/named_fields.py:rent --name rent --input-type strings --sample '"{\"area\": 60, \"rooms\": 2}"'
clipper-nomad predict rent '"{\"area\": 74.5, \"rooms\": 3, \"balcony\": true}"'
"""

from __future__ import annotations

import json
from collections.abc import Sequence

EACH_SQUARE_METRE, EACH_ROOM, BALCONY = 11.5, 40.0, 65.0


def rent(flats: Sequence[str]) -> list[str]:
    """Return {"rent": …} for each flat. A field that is missing fails that input alone; its batch mates are answered."""
    return [json.dumps({"rent": round(price(json.loads(flat)), 2)}) for flat in flats]


def price(flat: dict[str, float]) -> float:
    """Return what a flat costs in a month; what a request leaves out has its default here."""
    return EACH_SQUARE_METRE * flat["area"] + EACH_ROOM * flat["rooms"] + BALCONY * flat.get("balcony", False)
