// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtio block device (virtio 1.2, 5.2) over a raw image or a block device.
 *
 * A request is carried out by io_uring (liburing), or at once where the host forbids that. All of a
 * device's queues are served by its loop, so requests have no locks; the driver may spread its CPUs
 * over the queues to save its own.
 *
 * What is acknowledged is not lost by the end of this process, however violent: a write is only
 * acknowledged when the kernel has it. For the end of the host it is as the cache mode says:
 *   writeback     acknowledged writes may be in the host's page cache until a flush is acknowledged
 *   writethrough  a write is acknowledged after fdatasync()
 *   none          the page cache is bypassed (O_DIRECT); a flush is fdatasync()
 * A driver that cannot flush, or turns the cache off, gets writethrough from every mode.
 *
 * The image is locked (fcntl, open file description) against another guest: shared when read-only.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio.h"

#define SECTOR		512u
#define SEGMENTS	128u		/* data buffers of a request */
#define QUEUES_MAX	8u
#define DISCARD_MAX	(1u << 21)	/* sectors: 1 GiB */
#define DIRECT_ALIGN	4096u
#define BOUNCE_MAX	(16u << 20)
#define RING_SIZE	256u

struct blk;

struct request {
	struct virtq *q;
	uint16_t head;
	bool write, sync;		/* sync: fdatasync() follows */
	bool syncing;			/* the flush, or the fdatasync() of a write, is under way */
	uint32_t type, written;		/* written: bytes that the guest's memory gets, for used.len */
	uint8_t *status;
	uint64_t offset, left;		/* bytes */
	int mode;			/* of fallocate() */
	void *bounce;			/* O_DIRECT wants alignment that the guest did not keep */
	unsigned int segments, count;	/* of data, and of iov */
	struct iovec *iov;		/* what is left to be moved: data, or the bounce buffer */
	struct iovec data[SEGMENTS], bounced;
	struct request *next;		/* free */
};

struct blk {
	struct virtio dev;
	struct keel_blk_config config;
	char path[64];			/* its end, for the description */
	int fd;
	uint64_t size;			/* bytes */
	bool direct, uring;
	struct io_uring ring;
	struct keel_watch done;
	unsigned int in_flight;
	struct request *requests, *free;
	struct virtq_chain chain;
	struct iovec iov[SEGMENTS];
};

static struct blk *blk_of(struct virtio *dev)
{
	return (struct blk *)dev;
}

/* Completion ------------------------------------------------------------------------------- */

static void request_end(struct blk *blk, struct request *r, uint8_t status)
{
	free(r->bounce);
	r->bounce = NULL;
	*r->status = status;
	virtq_push(r->q, r->head, r->written + 1);
	virtq_notify(r->q);
	r->next = blk->free;
	blk->free = r;
	/* the queue may have waited for one */
	if (!r->next)
		for (unsigned int i = 0; i < blk->dev.queues; i++)
			if (blk->dev.queue[i].running)
				keel_eventfd_signal(blk->dev.queue[i].kick.fd);
}

static void submit(struct blk *blk, struct request *r);

/* Copies between the bounce buffer and the guest, when O_DIRECT could not do it in place. */
static void bounce_copy(struct request *r, uint64_t size, bool to_guest)
{
	struct virtq_chain c = { .iov = r->data };

	c.outs = to_guest ? 0 : r->segments;
	c.ins = to_guest ? r->segments : 0;
	if (to_guest)
		chain_write(&c, 0, r->bounce, size);
	else
		chain_read(&c, 0, r->bounce, size);
}

/* @res is what the system call gave: bytes, or a negative errno. */
static void request_done(struct blk *blk, struct request *r, int res)
{
	bool moves = r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_OUT;

	if (res == -EINTR || res == -EAGAIN) {
		submit(blk, r);
		return;
	}
	if (res < 0 || (moves && !r->syncing && res == 0)) {
		request_end(blk, r, res == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR);
		return;
	}
	if (moves && !r->syncing) {
		r->offset += res;
		r->left -= res;
		if (r->left) {
			/* a short one: the rest, from where it stopped */
			r->count = iov_slice(r->iov, r->count, res, r->left, r->iov);
			submit(blk, r);
			return;
		}
		if (r->bounce && !r->write)
			bounce_copy(r, r->written, true);
		if (r->write && r->sync) {
			r->syncing = true;
			submit(blk, r);
			return;
		}
	}
	request_end(blk, r, VIRTIO_BLK_S_OK);
}

/* Submission ------------------------------------------------------------------------------- */

static int run_now(struct blk *blk, struct request *r)
{
	ssize_t n;

	if (r->syncing)
		n = fdatasync(blk->fd);
	else if (r->mode)
		n = fallocate(blk->fd, r->mode, r->offset, r->left);
	else if (r->write)
		n = pwritev(blk->fd, r->iov, r->count, r->offset);
	else
		n = preadv(blk->fd, r->iov, r->count, r->offset);
	return n < 0 ? -errno : n;
}

static void submit(struct blk *blk, struct request *r)
{
	struct io_uring_sqe *sqe = blk->uring ? io_uring_get_sqe(&blk->ring) : NULL;

	if (!sqe) {
		request_done(blk, r, run_now(blk, r));
		return;
	}
	if (r->syncing)
		io_uring_prep_fsync(sqe, blk->fd, IORING_FSYNC_DATASYNC);
	else if (r->mode)
		io_uring_prep_fallocate(sqe, blk->fd, r->mode, r->offset, r->left);
	else if (r->write)
		io_uring_prep_writev(sqe, blk->fd, r->iov, r->count, r->offset);
	else
		io_uring_prep_readv(sqe, blk->fd, r->iov, r->count, r->offset);
	io_uring_sqe_set_data(sqe, r);
	blk->in_flight++;
	io_uring_submit(&blk->ring);
}

static void reap(struct blk *blk)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&blk->ring, &cqe)) {
		struct request *r = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&blk->ring, cqe);
		blk->in_flight--;
		request_done(blk, r, res);
	}
}

static void completions(void *opaque)
{
	struct blk *blk = opaque;

	keel_eventfd_clear(blk->done.fd);
	reap(blk);
}

/* Requests --------------------------------------------------------------------------------- */

static bool aligned(const struct request *r)
{
	for (unsigned int i = 0; i < r->segments; i++)
		if (((uintptr_t)r->data[i].iov_base | r->data[i].iov_len) % DIRECT_ALIGN)
			return false;
	return !(r->offset % DIRECT_ALIGN);
}

/* Returns a status, or -1 when the request is under way. */
static int transfer(struct blk *blk, struct request *r, uint64_t sector, uint64_t size)
{
	if (size % SECTOR || sector > blk->size / SECTOR || size > blk->size - sector * SECTOR)
		return VIRTIO_BLK_S_IOERR;
	if (r->write && blk->config.readonly)
		return VIRTIO_BLK_S_IOERR;
	r->offset = sector * SECTOR;
	r->left = size;
	r->iov = r->data;
	r->count = r->segments;
	if (!r->write)
		r->written = size;
	if (!size)
		return VIRTIO_BLK_S_OK;
	if (blk->direct && !aligned(r)) {
		if (size % DIRECT_ALIGN || r->offset % DIRECT_ALIGN || size > BOUNCE_MAX ||
		    posix_memalign(&r->bounce, DIRECT_ALIGN, size))
			return VIRTIO_BLK_S_IOERR;
		if (r->write)
			bounce_copy(r, size, false);
		r->bounced = (struct iovec) { .iov_base = r->bounce, .iov_len = size };
		r->iov = &r->bounced;
		r->count = 1;
	}
	return -1;
}

static int erase(struct blk *blk, struct request *r, struct virtq_chain *c)
{
	struct virtio_blk_discard_write_zeroes range;
	uint64_t size;

	/* one range: what config.max_discard_seg says */
	if (blk->config.readonly || c->out_size - sizeof(struct virtio_blk_outhdr) != sizeof(range))
		return VIRTIO_BLK_S_IOERR;
	chain_read(c, sizeof(struct virtio_blk_outhdr), &range, sizeof(range));
	size = (uint64_t)range.num_sectors * SECTOR;
	if (range.flags & ~(r->type == VIRTIO_BLK_T_DISCARD ? 0 :
			    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
		return VIRTIO_BLK_S_UNSUPP;
	if (!size || range.num_sectors > DISCARD_MAX || range.sector > blk->size / SECTOR ||
	    size > blk->size - range.sector * SECTOR)
		return VIRTIO_BLK_S_IOERR;
	r->offset = range.sector * SECTOR;
	r->left = size;
	r->mode = r->type == VIRTIO_BLK_T_DISCARD || range.flags ?
		  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
	return -1;
}

static int get_id(struct blk *blk, struct request *r, struct virtq_chain *c)
{
	char id[VIRTIO_BLK_ID_BYTES] = "";

	if (c->in_size - 1 < sizeof(id))
		return VIRTIO_BLK_S_IOERR;
	memcpy(id, blk->config.serial, strnlen(blk->config.serial, sizeof(id)));
	r->written = chain_write(c, 0, id, sizeof(id));
	return VIRTIO_BLK_S_OK;
}

static int dispatch(struct blk *blk, struct request *r, struct virtq_chain *c, uint64_t sector)
{
	size_t out = c->out_size - sizeof(struct virtio_blk_outhdr), in = c->in_size - 1;

	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		r->segments = iov_slice(c->iov + c->outs, c->ins, 0, in, r->data);
		return transfer(blk, r, sector, in);
	case VIRTIO_BLK_T_OUT:
		r->write = true;
		r->segments = iov_slice(c->iov, c->outs, sizeof(struct virtio_blk_outhdr), out,
					r->data);
		return transfer(blk, r, sector, out);
	case VIRTIO_BLK_T_FLUSH:
		r->syncing = true;
		return -1;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return erase(blk, r, c);
	case VIRTIO_BLK_T_GET_ID:
		return get_id(blk, r, c);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/* The driver may have no cache to flush, or may have turned ours off (5.2.6.2). */
static bool write_through(const struct blk *blk)
{
	const struct virtio_blk_config *config = (const void *)blk->dev.config;

	if (virtio_has(&blk->dev, VIRTIO_BLK_F_CONFIG_WCE))
		return !config->wce;
	return blk->config.cache == KEEL_CACHE_WRITETHROUGH ||
	       !virtio_has(&blk->dev, VIRTIO_BLK_F_FLUSH);
}

static bool serve(struct virtq *q, struct virtq_chain *c)
{
	struct blk *blk = blk_of(q->dev);
	struct virtio_blk_outhdr header;
	struct request *r = blk->free;
	const struct iovec *last;
	int status;

	if (!r)
		return false;
	if (chain_read(c, 0, &header, sizeof(header)) != sizeof(header) || !c->in_size) {
		virtio_broken(q->dev, "a block request without header or status");
		return true;
	}
	last = &c->iov[c->outs + c->ins - 1];
	blk->free = r->next;
	*r = (struct request) {
		.q = q, .head = c->head, .type = header.type, .sync = write_through(blk),
		.status = (uint8_t *)last->iov_base + last->iov_len - 1,
	};
	status = dispatch(blk, r, c, header.sector);
	if (status >= 0)
		request_end(blk, r, status);
	else
		submit(blk, r);
	return true;
}

static void kick(struct virtio *dev, unsigned int index)
{
	struct blk *blk = blk_of(dev);

	virtq_serve(&dev->queue[index], &blk->chain, serve);
}

/* The cache is on after reset (5.2.5.1), unless the user wants none. */
static void wce_reset(struct blk *blk)
{
	blk->dev.config[offsetof(struct virtio_blk_config, wce)] =
		blk->config.cache != KEEL_CACHE_WRITETHROUGH;
}

static void stop(struct virtio *dev)
{
	struct blk *blk = blk_of(dev);
	struct io_uring_cqe *cqe;

	while (blk->in_flight && !io_uring_wait_cqe(&blk->ring, &cqe))
		reap(blk);
	wce_reset(blk);
}

/* Creation --------------------------------------------------------------------------------- */

static int image_lock(struct blk *blk)
{
	struct flock lock = { .l_type = blk->config.readonly ? F_RDLCK : F_WRLCK };

	if (!fcntl(blk->fd, F_OFD_SETLK, &lock))
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return keel_fail(EBUSY, "--disk %s: another guest uses it", blk->config.path);
	return keel_fail(errno, "--disk %s: cannot lock it: %s", blk->config.path, strerror(errno));
}

static int image_open(struct blk *blk)
{
	const struct keel_blk_config *config = &blk->config;
	int flags = (config->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct stat st;

	blk->direct = config->cache == KEEL_CACHE_NONE;
	blk->fd = config->path ? open(config->path, flags | (blk->direct ? O_DIRECT : 0)) :
				 dup(config->fd);
	if (blk->fd < 0 && errno == EINVAL && blk->direct)
		return keel_fail(EINVAL, "--disk %s: its file system has no direct I/O: cache=none "
				 "cannot be had", config->path);
	if (blk->fd < 0 || fstat(blk->fd, &st) < 0)
		return keel_fail(errno, "--disk %s: %s", config->path, strerror(errno));
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(blk->fd, BLKGETSIZE64, &blk->size) < 0)
			return keel_fail(errno, "--disk %s: no size: %s", config->path,
					 strerror(errno));
	} else if (S_ISREG(st.st_mode)) {
		blk->size = st.st_size;
	} else {
		return keel_fail(EINVAL, "--disk %s: neither a file nor a block device",
				 config->path);
	}
	if (blk->direct && blk->size % DIRECT_ALIGN)
		return keel_fail(EINVAL, "--disk %s: cache=none wants a size in whole %u bytes",
				 config->path, DIRECT_ALIGN);
	if (blk->size < SECTOR)
		return keel_fail(EINVAL, "--disk %s: smaller than a sector", config->path);
	return config->path ? image_lock(blk) : 0;
}

/* Does the file system make holes? Beyond the end this changes nothing. */
static bool can_punch(const struct blk *blk)
{
	return !blk->config.readonly &&
	       !fallocate(blk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (blk->size + 4095) & ~4095ULL, 4096);
}

static bool can_zero(const struct blk *blk)
{
	return can_punch(blk) && !fallocate(blk->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
					    (blk->size + 4095) & ~4095ULL, 4096);
}

static void offer(struct blk *blk)
{
	struct virtio_blk_config *config = (void *)blk->dev.config;
	uint64_t features = VIRTIO_BIT(VIRTIO_BLK_F_SEG_MAX) | VIRTIO_BIT(VIRTIO_BLK_F_BLK_SIZE) |
			    VIRTIO_BIT(VIRTIO_BLK_F_FLUSH) | VIRTIO_BIT(VIRTIO_BLK_F_TOPOLOGY) |
			    VIRTIO_BIT(VIRTIO_BLK_F_CONFIG_WCE);

	config->capacity = blk->size / SECTOR;
	config->seg_max = SEGMENTS - 2;
	config->blk_size = blk->direct ? DIRECT_ALIGN : SECTOR;
	config->physical_block_exp = blk->direct ? 0 : 3;
	config->min_io_size = blk->direct ? 1 : 8;
	wce_reset(blk);
	config->num_queues = blk->dev.queues;
	if (blk->dev.queues > 1)
		features |= VIRTIO_BIT(VIRTIO_BLK_F_MQ);
	if (blk->config.readonly)
		features |= VIRTIO_BIT(VIRTIO_BLK_F_RO);
	if (can_punch(blk)) {
		features |= VIRTIO_BIT(VIRTIO_BLK_F_DISCARD);
		config->max_discard_sectors = DISCARD_MAX;
		config->max_discard_seg = 1;
		config->discard_sector_alignment = 8;
	}
	if (can_zero(blk)) {
		features |= VIRTIO_BIT(VIRTIO_BLK_F_WRITE_ZEROES);
		config->max_write_zeroes_sectors = DISCARD_MAX;
		config->max_write_zeroes_seg = 1;
		config->write_zeroes_may_unmap = 1;
	}
	blk->dev.offered = features;
}

static int ring_create(struct blk *blk)
{
	struct request *r;

	blk->requests = calloc(RING_SIZE, sizeof(*blk->requests));
	if (!blk->requests)
		return keel_fail(ENOMEM, "out of memory");
	for (unsigned int i = 0; i < RING_SIZE; i++) {
		r = &blk->requests[i];
		r->next = blk->free;
		blk->free = r;
	}
	/* containers forbid it often: then each request is carried out where it is found */
	blk->uring = !blk->config.no_uring && !io_uring_queue_init(RING_SIZE, &blk->ring, 0);
	if (!blk->uring)
		return 0;
	blk->done = (struct keel_watch) { .ready = completions, .opaque = blk };
	blk->done.fd = keel_eventfd();
	if (blk->done.fd < 0)
		return blk->done.fd;
	if (io_uring_register_eventfd(&blk->ring, blk->done.fd))
		return keel_fail(EIO, "cannot watch an io_uring");
	return 0;
}

static void blk_free(struct blk *blk)
{
	if (blk->uring)
		io_uring_queue_exit(&blk->ring);
	if (blk->done.fd >= 0)
		close(blk->done.fd);
	if (blk->fd >= 0)
		close(blk->fd);
	free(blk->requests);
	free(blk);
}

static void destroy(struct virtio *dev)
{
	blk_free(blk_of(dev));
}

static void describe(struct virtio *dev, char *text, size_t size)
{
	static const char *const cache[] = {
		[KEEL_CACHE_WRITEBACK] = "writeback", [KEEL_CACHE_WRITETHROUGH] = "writethrough",
		[KEEL_CACHE_NONE] = "none",
	};
	struct blk *blk = blk_of(dev);

	snprintf(text, size, "%s, %llu MiB%s, cache=%s, %s", blk->path,
		 (unsigned long long)(blk->size / KEEL_MIB), blk->config.readonly ? ", ro" : "",
		 cache[blk->config.cache], blk->uring ? "io_uring" : "synchronous");
}

static const struct virtio_ops ops = {
	.name = "blk", .type = VIRTIO_ID_BLOCK, .class = 0x01, .subclass = 0x80,
	.kick = kick, .stop = stop, .describe = describe, .destroy = destroy,
};

int keel_blk_create(struct keel_pci *pci, const struct keel_blk_config *config)
{
	struct blk *blk = calloc(1, sizeof(*blk));
	const char *name = config->path ? config->path : "scratch";
	int ret;

	if (!blk)
		return keel_fail(ENOMEM, "out of memory");
	blk->config = *config;
	blk->done.fd = -1;
	/* the end of a long path says most */
	snprintf(blk->path, sizeof(blk->path), "%s",
		 strlen(name) < sizeof(blk->path) ? name : name + strlen(name) - sizeof(blk->path) + 1);
	blk->chain = (struct virtq_chain) { .iov = blk->iov, .max = SEGMENTS };
	blk->dev.ops = &ops;
	blk->dev.queues = config->queues < QUEUES_MAX ? config->queues ? config->queues : 1 : QUEUES_MAX;
	blk->dev.config_size = sizeof(struct virtio_blk_config);
	blk->dev.config_first = offsetof(struct virtio_blk_config, wce);
	blk->dev.config_end = blk->dev.config_first + 1;
	ret = image_open(blk);
	if (!ret)
		ret = ring_create(blk);
	if (!ret) {
		offer(blk);
		ret = virtio_create(&blk->dev, pci, !config->unthreaded);
	}
	if (ret) {
		blk_free(blk);
		return ret;
	}
	if (blk->uring)
		ret = keel_loop_add(blk->dev.loop, &blk->done);
	return ret;
}
