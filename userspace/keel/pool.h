/* SPDX-License-Identifier: GPL-2.0-only */
/* cgroup v2 limits for guests: see pool.c. */
#ifndef KEEL_POOL_H
#define KEEL_POOL_H

/** cgroup_enter - put this process into the group at @path, below /sys/fs/cgroup */
int cgroup_enter(const char *path);
/** pool_enter - ... into that of the pool @name */
int pool_enter(const char *name);

#endif
