// SPDX-License-Identifier: GPL-2.0-only
/*
 * The block device against an image in memory: reads and writes in every framing, the bounds, the
 * cache, and requests that are wrong. With io_uring where this machine allows it, and without.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver.h"
#include "tap.h"

#define SECTORS	2048u
#define HEADER	DRV_DATA
#define STATUS	(DRV_DATA + 0x100)
#define DATA	(DRV_DATA + 0x1000)

static struct machine m;
static struct drv d;
static int image;

static void setup(struct keel_blk_config config)
{
	image = memfd_create("disk", MFD_CLOEXEC);
	if (image < 0 || ftruncate(image, SECTORS * 512) < 0)
		exit(1);
	config.fd = image;
	config.unthreaded = true;
	drv_machine(&m);
	CHECK_EQ(keel_blk_create(m.pci, &config), 0);
	drv_find(&d, &m, 1);
	CHECK(drv_start(&d, 0, 64));
}

static void teardown(void)
{
	drv_machine_end(&m);
	close(image);
}

static uint8_t status(void)
{
	return *(uint8_t *)drv_at(&d, STATUS);
}

/* Returns the used length; io_uring takes a moment. */
static int64_t request(uint32_t type, uint64_t sector, const struct drv_buf *data, unsigned int count)
{
	struct virtio_blk_outhdr *header = drv_at(&d, HEADER);
	struct drv_buf bufs[16] = { { HEADER, sizeof(*header), false } };
	int64_t size = -1;

	*header = (struct virtio_blk_outhdr) { .type = type, .sector = sector };
	memcpy(bufs + 1, data, count * sizeof(*data));
	bufs[count + 1] = (struct drv_buf) { STATUS, 1, true };
	*(uint8_t *)drv_at(&d, STATUS) = 0xff;
	drv_add(&d, 0, bufs, count + 2);
	drv_kick(&d, 0);
	for (int i = 0; i < 2000 && size < 0; i++) {
		drv_poll(&d);
		size = drv_take(&d, 0, NULL);
		if (size < 0)
			usleep(1000);
	}
	return size;
}

static uint8_t one(uint32_t type, uint64_t sector, uint64_t gpa, uint32_t size)
{
	struct drv_buf buf = { gpa, size, type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID };

	request(type, sector, &buf, size ? 1 : 0);
	return status();
}

static void moves_data(bool no_uring)
{
	const struct drv_buf pieces[] = {
		{ DATA + 0x8000, 100, true }, { DATA + 0x9001, 900, true }, { DATA + 0xa000, 24, true },
	};
	uint8_t *data, back[1024];

	setup((struct keel_blk_config) { .queues = 2, .serial = "a serial", .no_uring = no_uring });
	data = drv_at(&d, DATA);
	for (int i = 0; i < 4096; i++)
		data[i] = i * 7 + i / 256;
	CHECK_EQ(one(VIRTIO_BLK_T_OUT, 5, DATA, 1024), VIRTIO_BLK_S_OK);
	CHECK_EQ(pread(image, back, 1024, 5 * 512), 1024);
	CHECK(!memcmp(back, data, 1024));
	/* scattered, and the length counts data and status */
	CHECK_EQ(request(VIRTIO_BLK_T_IN, 5, pieces, 3), 1025);
	CHECK_EQ(status(), VIRTIO_BLK_S_OK);
	CHECK(!memcmp(drv_at(&d, DATA + 0x8000), data, 100));
	CHECK(!memcmp(drv_at(&d, DATA + 0x9001), data + 100, 900));
	CHECK(!memcmp(drv_at(&d, DATA + 0xa000), data + 1000, 24));
	CHECK_EQ(one(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	CHECK_EQ(one(VIRTIO_BLK_T_GET_ID, 0, DATA + 0x8000, 20), VIRTIO_BLK_S_OK);
	CHECK(!memcmp(drv_at(&d, DATA + 0x8000), "a serial\0\0\0", 11));
	/* bounds */
	CHECK_EQ(one(VIRTIO_BLK_T_OUT, SECTORS - 1, DATA, 512), VIRTIO_BLK_S_OK);
	CHECK_EQ(one(VIRTIO_BLK_T_OUT, SECTORS - 1, DATA, 1024), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(one(VIRTIO_BLK_T_IN, SECTORS, DATA, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(one(VIRTIO_BLK_T_OUT, UINT64_MAX / 512, DATA, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(one(VIRTIO_BLK_T_OUT, UINT64_MAX, DATA, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(one(VIRTIO_BLK_T_OUT, 0, DATA, 100), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(one(0x12345, 0, DATA, 512), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(lseek(image, 0, SEEK_END), SECTORS * 512);
	teardown();
}

static void with_uring(void)
{
	moves_data(false);
}

static void without_uring(void)
{
	moves_data(true);
}

static uint8_t erase(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes *range = drv_at(&d, DATA);

	*range = (struct virtio_blk_discard_write_zeroes) { sector, sectors, flags };
	return one(type, 0, DATA, sizeof(*range));
}

static void erases(void)
{
	static char fill[64 * 1024];
	char byte = 0;

	setup((struct keel_blk_config) { .queues = 1 });
	CHECK(drv_offered(&d) & VIRTIO_BIT(VIRTIO_BLK_F_DISCARD));
	memset(fill, 'x', sizeof(fill));
	CHECK_EQ(pwrite(image, fill, sizeof(fill), 0), sizeof(fill));
	CHECK_EQ(erase(VIRTIO_BLK_T_DISCARD, 0, 64, 0), VIRTIO_BLK_S_OK);
	CHECK_EQ(pread(image, &byte, 1, 100), 1);
	CHECK_EQ(byte, 0);
	CHECK_EQ(pread(image, &byte, 1, 64 * 512), 1);
	CHECK_EQ(byte, 'x');
	CHECK_EQ(erase(VIRTIO_BLK_T_WRITE_ZEROES, 64, 64, 1), VIRTIO_BLK_S_OK);
	CHECK_EQ(pread(image, &byte, 1, 64 * 512), 1);
	CHECK_EQ(byte, 0);
	CHECK_EQ(erase(VIRTIO_BLK_T_DISCARD, 0, 64, 1), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(erase(VIRTIO_BLK_T_WRITE_ZEROES, 0, 64, 2), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(erase(VIRTIO_BLK_T_DISCARD, SECTORS - 1, 2, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(erase(VIRTIO_BLK_T_DISCARD, UINT64_MAX, 2, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(erase(VIRTIO_BLK_T_DISCARD, 0, 0, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(erase(VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(one(VIRTIO_BLK_T_DISCARD, 0, DATA, 15), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(lseek(image, 0, SEEK_END), SECTORS * 512);
	teardown();
}

static void read_only(void)
{
	setup((struct keel_blk_config) { .queues = 1, .readonly = true });
	CHECK(drv_offered(&d) & VIRTIO_BIT(VIRTIO_BLK_F_RO));
	CHECK_EQ(one(VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(erase(VIRTIO_BLK_T_DISCARD, 0, 64, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(one(VIRTIO_BLK_T_IN, 0, DATA, 512), VIRTIO_BLK_S_OK);
	teardown();
}

static void cache(void)
{
	const unsigned int wce = 0x2000 + offsetof(struct virtio_blk_config, wce);

	setup((struct keel_blk_config) { .queues = 1, .cache = KEEL_CACHE_WRITETHROUGH });
	CHECK_EQ(drv_read(&d, wce, 1), 0);
	CHECK_EQ(one(VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_OK);
	drv_write(&d, wce, 1, 1);
	CHECK_EQ(drv_read(&d, wce, 1), 1);
	CHECK(drv_start(&d, 0, 64));
	CHECK_EQ(drv_read(&d, wce, 1), 0);
	teardown();
	setup((struct keel_blk_config) { .queues = 1 });
	CHECK_EQ(drv_read(&d, wce, 1), 1);
	drv_write(&d, wce, 0, 1);
	CHECK_EQ(one(VIRTIO_BLK_T_OUT, 0, DATA, 512), VIRTIO_BLK_S_OK);
	/* nothing else of it can be written */
	drv_write(&d, 0x2000, 0, 4);
	CHECK_EQ(drv_read(&d, 0x2000, 4), SECTORS);
	teardown();
}

static void many_at_once(void)
{
	struct virtio_blk_outhdr *header;
	unsigned int done = 0;

	setup((struct keel_blk_config) { .queues = 1 });
	for (unsigned int i = 0; i < 21; i++) {
		struct drv_buf bufs[] = {
			{ HEADER + 16 * i, 16, false }, { DATA + 512 * i, 512, false },
			{ STATUS + 0x400 + i, 1, true },
		};

		header = drv_at(&d, bufs[0].gpa);
		*header = (struct virtio_blk_outhdr) { .type = VIRTIO_BLK_T_OUT, .sector = i };
		memset(drv_at(&d, bufs[1].gpa), i + 1, 512);
		drv_add(&d, 0, bufs, 3);
	}
	drv_kick(&d, 0);
	for (int i = 0; i < 2000 && done < 21; i++) {
		drv_poll(&d);
		while (drv_take(&d, 0, NULL) >= 0)
			done++;
		usleep(500);
	}
	CHECK_EQ(done, 21);
	for (unsigned int i = 0; i < 21; i++) {
		uint8_t byte = 0;

		CHECK_EQ(pread(image, &byte, 1, i * 512 + 100), 1);
		CHECK_EQ(byte, i + 1);
	}
	teardown();
}

static void refused(void)
{
	struct drv_buf none = { STATUS, 1, false };

	setup((struct keel_blk_config) { .queues = 1 });
	/* no status to write to: the device stops */
	drv_do(&d, 0, &none, 1);
	CHECK(drv_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
	teardown();
	drv_machine(&m);
	CHECK_EQ(keel_blk_create(m.pci, &(struct keel_blk_config) { .path = "/nowhere/at/all" }),
		 -ENOENT);
	CHECK(strstr(keel_error(), "--disk /nowhere/at/all"));
	CHECK_EQ(keel_blk_create(m.pci, &(struct keel_blk_config) { .path = "/dev/null" }), -EINVAL);
	CHECK_EQ(keel_blk_create(m.pci, &(struct keel_blk_config) { .path = "/" }), -EISDIR);
	drv_machine_end(&m);
}

TESTS(TEST(with_uring), TEST(without_uring), TEST(erases), TEST(read_only), TEST(cache),
      TEST(many_at_once), TEST(refused));
