"""Writes the bill of materials of a package: ``sbom.py <service> <package> <output>``.

CycloneDX 1.6, JSON. It lists what is in the zip, by the metadata that every installed distribution
brings, so it can't differ from what is deployed. The same package gives the same bill.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any


def components(package: Path) -> list[dict[str, Any]]:
    """List the distributions in a package, as CycloneDX describes components, sorted by name.

    :raises zipfile.BadZipFile: it is no zip.
    """
    found = []
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            if not re.fullmatch(r"[^/]+\.dist-info/METADATA", name):
                continue
            metadata = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
            # Package URLs have names as PyPI normalises them.
            normalised = re.sub(r"[-_.]+", "-", metadata["Name"]).lower()
            purl = f"pkg:pypi/{normalised}@{metadata['Version']}"
            component = {
                "type": "library",
                "bom-ref": purl,
                "name": metadata["Name"],
                "version": metadata["Version"],
                "purl": purl,
            }
            if metadata["License-Expression"]:
                component["licenses"] = [{"expression": metadata["License-Expression"]}]
            if metadata["Summary"]:
                component["description"] = metadata["Summary"]
            found.append(component)
    return sorted(found, key=lambda component: str(component["bom-ref"]))


def bill_of_materials(service: str, package: Path) -> dict[str, Any]:
    """Return the bill of materials of a package."""
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": service,
                "name": service,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        },
        "components": components(package),
    }


def main() -> int:
    """Write the bill of materials; returns the exit code."""
    service, package, output = sys.argv[1:]
    bill = bill_of_materials(service, Path(package))
    Path(output).write_text(json.dumps(bill, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{output}: {len(bill['components'])} components of {package}, CycloneDX 1.6")
    return 0


if __name__ == "__main__":
    sys.exit(main())
