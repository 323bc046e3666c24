/* SPDX-License-Identifier: GPL-2.0-only */
/* The commands of the keel program: each a file, each called with its own argv[0]. */
#ifndef KEEL_COMMANDS_H
#define KEEL_COMMANDS_H

int keel_run(int argc, char **argv);
int keel_ctl(int argc, char **argv);
int keel_pool(int argc, char **argv);
int keel_switch(int argc, char **argv);
int keel_ps(int argc, char **argv);
int keel_top(int argc, char **argv);
int keel_stat(int argc, char **argv);
int keel_events(int argc, char **argv);

#endif
