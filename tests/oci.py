"""Writes container images as buildx does. It imports little: programs of the tests use it, too."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any


def oci_archive(file: Path, content: bytes) -> str:
    """Write an image of one layer with one file, as buildx does; return its digest."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(sized("app/lambda.zip", content), io.BytesIO(content))
    compressed = gzip.compress(layer.getvalue(), mtime=0)
    blobs: dict[str, bytes] = {}

    def blob(kind: str, data: bytes) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{name}"] = data
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}

    config = {"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", json.dumps(config).encode()),
        "layers": [blob("layer.v1.tar+gzip", compressed)],
    }
    described = blob("manifest.v1+json", json.dumps(manifest).encode())
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [described]}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(file, "w") as tar:
        for name, data in blobs.items():
            tar.addfile(sized(name, data), io.BytesIO(data))
    return str(described["digest"])


def sized(name: str, content: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info
