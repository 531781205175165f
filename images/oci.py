#!/usr/bin/env python3
"""Writes an image archive (OCI image layout, one layer) from a folder, without a registry or a container engine.

The same folder gives the same bytes: names are sorted, times and owners are fixed.
"""

import argparse
import hashlib
import io
import json
import os
import tarfile
import tempfile


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", help="the file to write")
    parser.add_argument("--name", required=True, help="the image's name and tag")
    parser.add_argument("--root", required=True, help="the folder that becomes its root file system")
    parser.add_argument("--entrypoint", nargs="+", default=[])
    parser.add_argument("--user", default="")
    parser.add_argument("--env", nargs="*", default=[])
    arguments = parser.parse_args()
    settings = {"entrypoint": arguments.entrypoint, "user": arguments.user, "env": arguments.env}
    write(arguments.archive, arguments.name, arguments.root, **settings)


def write(archive, name, root, entrypoint=(), user="", env=()):
    """Writes an archive with the image `name` whose root file system is the folder `root`."""
    settings = {"Entrypoint": list(entrypoint), "User": user, "WorkingDir": "/"}
    settings["Env"] = ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *env]
    with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(archive))) as layer:
        write_layer(layer, root)
        write_archive(archive, name, settings, layer)


def write_layer(layer, root):
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder, folders, files in os.walk(root):
            folders.sort()
            # A link to a folder is listed as one; it must not be walked into, but be in the layer.
            for name in sorted(files + folders):
                path = os.path.join(folder, name)
                tar.add(path, arcname=os.path.relpath(path, root), recursive=False, filter=plain)


def plain(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = 0
    return entry


def write_archive(archive, name, settings, layer):
    layer.seek(0)
    layer_digest = digest_of(layer)
    layer_size = layer.seek(0, os.SEEK_END)
    config = as_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + layer_digest]},
        }
    )
    kind = "application/vnd.oci.image."
    manifest = as_json(
        {
            "schemaVersion": 2,
            "mediaType": kind + "manifest.v1+json",
            "config": described(kind + "config.v1+json", config),
            "layers": [{"mediaType": kind + "layer.v1.tar", "digest": "sha256:" + layer_digest, "size": layer_size}],
        }
    )
    tag = name.rsplit(":", 1)[-1]
    names = {"io.containerd.image.name": full_name(name), "org.opencontainers.image.ref.name": tag}
    entry = {**described(kind + "manifest.v1+json", manifest), "annotations": names}
    with tarfile.open(archive + ".new", "w") as tar:
        add(tar, "oci-layout", as_json({"imageLayoutVersion": "1.0.0"}))
        add(tar, "index.json", as_json({"schemaVersion": 2, "manifests": [entry]}))
        for content in (config, manifest):
            add(tar, blob(hashlib.sha256(content).hexdigest()), content)
        entry = tarfile.TarInfo(blob(layer_digest))
        entry.size = layer_size
        layer.seek(0)
        tar.addfile(entry, layer)
    os.replace(archive + ".new", archive)


def full_name(name):
    """The name as containerd keeps it: Docker's registry is what a name without a host means."""
    first = name.split("/", 1)[0]
    return name if "." in first or first == "localhost" else "docker.io/" + name


def digest_of(file):
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def described(media_type, content):
    return {"mediaType": media_type, "digest": "sha256:" + hashlib.sha256(content).hexdigest(), "size": len(content)}


def as_json(value):
    return json.dumps(value, sort_keys=True).encode()


def blob(digest):
    return "blobs/sha256/" + digest


def add(tar, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main()
