#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The least that a kernel on Keel has to do: come up with two CPUs (with one on a machine that has no more), count, and go
# down again. For host kernels and set-ups in which not everything is run.
#
# guest.sh says what this takes from the environment.
# shellcheck disable=SC2016

dir=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=guest.sh
. "$dir/guest.sh"
plan 1

[ -f "$vmlinux" ] || vmlinux=$vmlinuz
cpus=$(($(nproc) > 1 ? 2 : 1))
guest "$vmlinux" 'echo "$(nproc) CPUs, $(seq 1 100 | wc -l) lines"; exit 7' -c $cpus
[ "$status" = 7 ] && [ "$(cat "$work/out")" = "$cpus CPUs, 100 lines" ]
passed=$?
[ $passed = 0 ] || { echo "# status $status"; say_outputs; }
result $passed "a Linux guest with $cpus CPUs"
