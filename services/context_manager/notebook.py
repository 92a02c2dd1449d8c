"""Jupyter notebooks: what people wrote in the cells, without what the cells printed.

Outputs hold rows of data, pictures and sometimes secrets; none of it helps to find the notebook.
"""

import json

from services.context_manager.shapes import items, mapping


def sources(text: str) -> str:
    """The sources of the cells, one after the other; empty when `text` is no notebook."""
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    cells = [mapping(cell).get("source") for cell in items(mapping(document).get("cells"))]
    return "\n\n".join(source if isinstance(source, str) else _joined(source) for source in cells)


def _joined(lines: object) -> str:
    return "".join(line for line in items(lines) if isinstance(line, str))
