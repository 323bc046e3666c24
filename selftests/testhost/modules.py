# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's modules, as scripts/get-kernel leaves them: where each is, and what it needs."""

import lzma
import os
import re
import subprocess
import tempfile


def module_depends(path):
    with open(path, "rb") as content:
        found = re.search(rb"\0depends=([^\0]*)\0", b"\0" + content.read())
    return [name for name in found.group(1).decode().split(",") if name] if found else []


class Modules:
    """A kernel's modules: flat files in a directory, some still packed."""

    def __init__(self, kernel):
        self.unpacked = os.path.join(kernel, "unpacked")
        self.found = {}
        directory = os.path.join(kernel, "modules")
        for name in os.listdir(directory):
            self.found[name.split(".")[0].replace("-", "_")] = os.path.join(directory, name)

    def path(self, name):
        packed = self.found[name]
        stem, form = os.path.splitext(os.path.basename(packed))
        if not form:
            return packed
        target = os.path.join(self.unpacked, stem)
        if not os.path.exists(target):
            os.makedirs(self.unpacked, exist_ok=True)
            with open(packed, "rb") as source:
                data = source.read()
            if form == ".xz":
                data = lzma.decompress(data)
            else:
                unpack = ["zstd", "-dcq"]
                data = subprocess.run(unpack, input=data, stdout=subprocess.PIPE, check=True).stdout
            with tempfile.NamedTemporaryFile(dir=self.unpacked, delete=False) as new:
                new.write(data)
            os.rename(new.name, target)
        return target

    def order(self, names, done):
        """Paths of NAMES and of all they need, in load order; what is not a module is built in."""
        paths = []
        for name in names:
            name = name.replace("-", "_")
            if name in done or name not in self.found:
                continue
            done.add(name)
            path = self.path(name)
            paths += self.order(module_depends(path), done) + [path]
        return paths
