# pyright: basic, reportMissingImports=false
"""Runs in the environment of `sbom.txt`: validates a CycloneDX file, `python with_cyclonedx.py FILE`."""

import json
import sys
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = Path(sys.argv[1]).read_text(encoding="utf-8")
problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
bom = Bom.from_json(json.loads(text)) if problem is None else None
sys.stdout.write(json.dumps({"problem": str(problem or ""), "components": len(bom.components) if bom else 0}))
