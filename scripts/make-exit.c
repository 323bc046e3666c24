// SPDX-License-Identifier: GPL-2.0-only
/*
 * A function for the Makefile: $(exit-with STATUS) ends make with that status.
 *
 * Make itself ends with 2 whenever a recipe fails, whatever the status was, but 'make run CMD=...'
 * is to end with the command's own.  GNU make loads this as an extension ("Loading Dynamic Objects"
 * in its manual).
 */
#include <gnumake.h>
#include <stdlib.h>

int plugin_is_GPL_compatible;
int make_exit_gmk_setup(void);

static char *exit_with(const char *name, unsigned int argc, char **argv)
{
	int status = argc ? atoi(argv[0]) : 0;

	(void)name;
	if (status)
		exit(status);
	return NULL;
}

int make_exit_gmk_setup(void)
{
	gmk_add_function("exit-with", exit_with, 1, 1, GMK_FUNC_DEFAULT);
	return 1;
}
