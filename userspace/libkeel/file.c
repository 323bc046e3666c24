// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads a kernel or an initrd into memory, whole.
 *
 * Files are read, not mapped: a mapping of a file that shrinks meanwhile would kill us with
 * SIGBUS. Pipes work too, so the size is not known in advance and the limit is what bounds the
 * memory used.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libkeel.h"

static int too_large(const char *path, uint64_t limit)
{
	return keel_fail(EFBIG, "%s is larger than the %llu MiB that the guest has room for: "
			 "give the guest more memory with -m", path,
			 (unsigned long long)(limit / KEEL_MIB));
}

static int read_all(int fd, const char *path, uint64_t limit, size_t guess, void **data,
		    size_t *size)
{
	size_t room = guess + 1, used = 0;
	uint8_t *buf = malloc(room);
	ssize_t n;

	while (buf) {
		n = read(fd, buf + used, room - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = errno;

			free(buf);
			return keel_fail(err, "cannot read %s: %s", path, strerror(err));
		}
		if (n == 0) {
			*data = buf;
			*size = used;
			return 0;
		}
		used += n;
		if (used > limit) {
			free(buf);
			return too_large(path, limit);
		}
		if (used == room) {
			uint8_t *more = realloc(buf, room * 2);

			if (!more)
				free(buf);
			buf = more;
			room *= 2;
		}
	}
	return keel_fail(ENOMEM, "out of memory while reading %s", path);
}

int keel_file_load(const char *path, uint64_t limit, void **data, size_t *size)
{
	size_t guess = 65535;
	struct stat st;
	int fd, ret;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		ret = errno;
		return keel_fail(ret, "cannot open %s: %s", path, strerror(ret));
	}
	if (fstat(fd, &st) == 0) {
		if (S_ISDIR(st.st_mode)) {
			close(fd);
			return keel_fail(EISDIR, "%s is a directory: give a file", path);
		}
		if (S_ISREG(st.st_mode)) {
			if ((uint64_t)st.st_size > limit) {
				close(fd);
				return too_large(path, limit);
			}
			guess = st.st_size;
		}
	}
	ret = read_all(fd, path, limit, guess, data, size);
	close(fd);
	return ret;
}
