# SPDX-License-Identifier: GPL-2.0-only
"""What the checks of this directory share: where the tree is, C source as text, TAP."""

import os
import re

TREE = os.environ.get("KEEL_TREE") or os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))


def code(text):
    """C without comments and strings, line by line as before."""

    def blank(match):
        return '""' if match[0][0] == '"' else "\n" * match[0].count("\n")

    return re.sub(r'"(?:[^"\\\n]|\\.)*"|/\*.*?\*/|//[^\n]*', blank, text, flags=re.S)


class Test:
    """The results: a list of complaints for each."""

    def __init__(self):
        self.checks = []

    def check(self, what):
        self.checks.append((what, []))
        return self.checks[-1][1].append

    def close(self):
        print(f"TAP version 13\n1..{len(self.checks)}")
        for number, (what, complaints) in enumerate(self.checks, 1):
            print(f"{'not ok' if complaints else 'ok'} {number} {what}")
            for complaint in complaints:
                print(f"#   {complaint}")
        return any(complaints for _, complaints in self.checks)
