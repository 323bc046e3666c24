// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtio 9P device: a directory of the host's, served to the guest by a 9P2000.L server of its
 * own, diod (Debian's package), on the other end of a socket.
 *
 * A request is a 9P message, and its reply another with the same tag. The loop writes requests to the
 * server; a thread reads its replies, and never waits for anything else, so neither can hold up the
 * other. What a message means is the server's business: here only its size and its tag are looked at.
 *
 * The device is in virtio's list of types (5); messages are those of the Plan 9 manual, intro(5).
 * lock guards the table of requests under way, and with it the used ring.
 */
#include <errno.h>
#include <linux/virtio_9p.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "virtio.h"

#define QUEUE_SIZE	128u
#define SEGMENTS	132u
#define MESSAGE_MIN	7u		/* size[4] type[1] tag[2] */
#define MESSAGE_MAX	(1u << 20)
#define RLERROR		7
#define EIO_REPLY	5
#define STOP_SECONDS	5

extern char **environ;

struct request {
	bool used;
	uint16_t tag, head;
	unsigned int ins;
	struct iovec iov[SEGMENTS];
};

struct p9 {
	struct virtio dev;
	char *path;
	int sock;
	pid_t server;
	pthread_t thread;
	bool started, dead;
	uint8_t *out, *in;		/* a message each: the loop's, the thread's */
	struct virtq_chain chain;
	struct iovec iov[SEGMENTS];

	pthread_mutex_t lock;
	pthread_cond_t idle;
	unsigned int under_way;
	struct request request[QUEUE_SIZE];
};

static struct p9 *p9_of(struct virtio *dev)
{
	return (struct p9 *)dev;
}

static bool send_all(int fd, const uint8_t *data, size_t size)
{
	while (size) {
		ssize_t n = send(fd, data, size, MSG_NOSIGNAL);

		if (n <= 0 && errno != EINTR)
			return false;
		if (n > 0) {
			data += n;
			size -= n;
		}
	}
	return true;
}

static bool receive_all(int fd, uint8_t *data, size_t size)
{
	while (size) {
		ssize_t n = recv(fd, data, size, MSG_WAITALL);

		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		if (n > 0) {
			data += n;
			size -= n;
		}
	}
	return true;
}

static uint32_t message_size(const uint8_t *m)
{
	uint32_t size;

	memcpy(&size, m, sizeof(size));
	return size;
}

static uint16_t message_tag(const uint8_t *m)
{
	uint16_t tag;

	memcpy(&tag, m + 5, sizeof(tag));
	return tag;
}

/* Requests --------------------------------------------------------------------------------- */

/* The server will not answer: we do, with EIO. */
static void answer_error(struct virtq *q, const struct virtq_chain *c, uint16_t tag)
{
	uint8_t reply[11] = { sizeof(reply), 0, 0, 0, RLERROR, tag & 0xff, tag >> 8, EIO_REPLY };

	virtq_push(q, c->head, chain_write(c, 0, reply, sizeof(reply)));
}

static struct request *request_take(struct p9 *p9, const struct virtq_chain *c, uint16_t tag)
{
	struct request *free_one = NULL;

	for (unsigned int i = 0; i < QUEUE_SIZE; i++) {
		if (p9->request[i].used && p9->request[i].tag == tag)
			return NULL;
		if (!p9->request[i].used)
			free_one = &p9->request[i];
	}
	if (free_one) {
		free_one->used = true;
		free_one->tag = tag;
		free_one->head = c->head;
		free_one->ins = c->ins;
		memcpy(free_one->iov, c->iov + c->outs, c->ins * sizeof(c->iov[0]));
		p9->under_way++;
	}
	return free_one;
}

static bool serve(struct virtq *q, struct virtq_chain *c)
{
	struct p9 *p9 = p9_of(q->dev);
	size_t size = chain_read(c, 0, p9->out, MESSAGE_MAX);
	bool taken;
	uint16_t tag;

	if (size < MESSAGE_MIN || message_size(p9->out) < MESSAGE_MIN ||
	    message_size(p9->out) > size || c->in_size < MESSAGE_MIN) {
		virtio_broken(q->dev, "a 9P request whose size is wrong");
		return true;
	}
	tag = message_tag(p9->out);
	pthread_mutex_lock(&p9->lock);
	taken = !p9->dead && request_take(p9, c, tag);
	if (!taken)
		answer_error(q, c, tag);
	pthread_mutex_unlock(&p9->lock);
	if (taken && !send_all(p9->sock, p9->out, message_size(p9->out)))
		shutdown(p9->sock, SHUT_RDWR);	/* the thread answers what is under way */
	return true;
}

static void kick(struct virtio *dev, unsigned int index)
{
	struct p9 *p9 = p9_of(dev);
	struct virtq *q = &dev->queue[index];

	/* virtq_serve() would notify without the lock */
	for (unsigned int n = 0; n < q->size; n++) {
		if (!virtq_pop(q, &p9->chain)) {
			pthread_mutex_lock(&p9->lock);
			virtq_notify(q);
			pthread_mutex_unlock(&p9->lock);
			if (!q->running || !virtq_kicks(q, true))
				return;
		} else {
			serve(q, &p9->chain);
		}
	}
	keel_eventfd_signal(q->kick.fd);
}

/* Replies ---------------------------------------------------------------------------------- */

static void reply(struct p9 *p9, uint16_t tag, const uint8_t *message, uint32_t size)
{
	struct virtq *q = &p9->dev.queue[0];

	for (unsigned int i = 0; i < QUEUE_SIZE; i++) {
		struct request *r = &p9->request[i];
		struct virtq_chain c = { .head = r->head, .ins = r->ins, .iov = r->iov };

		if (!r->used || r->tag != tag)
			continue;
		r->used = false;
		if (!--p9->under_way)
			pthread_cond_signal(&p9->idle);
		if (!q->running)
			return;
		if (message)
			virtq_push(q, r->head, chain_write(&c, 0, message, size));
		else
			answer_error(q, &c, tag);
		virtq_notify(q);
		return;
	}
}

static void *reply_thread(void *opaque)
{
	struct p9 *p9 = opaque;
	uint32_t size;

	for (;;) {
		if (!receive_all(p9->sock, p9->in, 4))
			break;
		size = message_size(p9->in);
		if (size < MESSAGE_MIN || size > MESSAGE_MAX ||
		    !receive_all(p9->sock, p9->in + 4, size - 4))
			break;
		pthread_mutex_lock(&p9->lock);
		reply(p9, message_tag(p9->in), p9->in, size);
		pthread_mutex_unlock(&p9->lock);
	}
	pthread_mutex_lock(&p9->lock);
	p9->dead = true;
	for (unsigned int i = 0; i < QUEUE_SIZE; i++)
		if (p9->request[i].used)
			reply(p9, p9->request[i].tag, NULL, 0);
	pthread_mutex_unlock(&p9->lock);
	return NULL;
}

/* A reset waits for the server: what it still says would otherwise be taken for new answers. */
static void stop(struct virtio *dev)
{
	struct p9 *p9 = p9_of(dev);
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_SECONDS;
	pthread_mutex_lock(&p9->lock);
	dev->queue[0].running = false;
	while (p9->under_way && !pthread_cond_timedwait(&p9->idle, &p9->lock, &until))
		;
	if (p9->under_way)
		p9->dead = true;
	pthread_mutex_unlock(&p9->lock);
}

/* Life ------------------------------------------------------------------------------------- */

static void p9_free(struct p9 *p9)
{
	if (p9->sock >= 0)
		shutdown(p9->sock, SHUT_RDWR);
	if (p9->started)
		pthread_join(p9->thread, NULL);
	if (p9->sock >= 0)
		close(p9->sock);
	/* it ends with its connection */
	if (p9->server > 0)
		waitpid(p9->server, NULL, 0);
	pthread_cond_destroy(&p9->idle);
	pthread_mutex_destroy(&p9->lock);
	free(p9->path);
	free(p9->out);
	free(p9->in);
	free(p9);
}

static void destroy(struct virtio *dev)
{
	p9_free(p9_of(dev));
}

static void describe(struct virtio *dev, char *text, size_t size)
{
	struct p9 *p9 = p9_of(dev);

	snprintf(text, size, "%s%s", p9->path, p9->dead ? " (its server has gone)" : "");
}

static const struct virtio_ops ops = {
	.name = "9p", .type = VIRTIO_ID_9P, .class = 0x01, .subclass = 0x80,
	.kick = kick, .stop = stop, .describe = describe, .destroy = destroy,
};

static int server_start(struct p9 *p9, const struct keel_share_config *config)
{
	/* whoever asks in the guest, it is this user who does it: nobody else's files are in reach */
	char *argv[] = {
		"diod", "-f", "-n", "-S", "-U", "root", "-r", "0", "-w", "0", "-c", "/dev/null",
		"-e", p9->path, config->readonly ? "-o" : NULL, "ro", NULL,
	};
	posix_spawn_file_actions_t actions;
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return keel_fail(errno, "cannot make a socket: %s", strerror(errno));
	p9->sock = pair[0];
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pair[1], STDIN_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", 1, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1, 0);
	err = posix_spawnp(&p9->server, "diod", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(pair[1]);
	return err ? keel_fail(err, "--share %s: cannot start diod: %s (install the package diod)",
			       config->path, strerror(err)) : 0;
}

static int p9_start(struct p9 *p9, const struct keel_share_config *config)
{
	int ret;

	p9->path = realpath(config->path, NULL);
	if (!p9->path)
		return keel_fail(errno, "--share %s: %s", config->path, strerror(errno));
	p9->out = malloc(MESSAGE_MAX);
	p9->in = malloc(MESSAGE_MAX);
	if (!p9->out || !p9->in)
		return keel_fail(ENOMEM, "out of memory");
	p9->sock = config->server_fd;
	ret = config->server_fd < 0 ? server_start(p9, config) : 0;
	if (ret)
		return ret;
	ret = pthread_create(&p9->thread, NULL, reply_thread, p9);
	if (ret)
		return keel_fail(ret, "cannot start a thread: %s", strerror(ret));
	p9->started = true;
	return 0;
}

int keel_share_create(struct keel_pci *pci, const struct keel_share_config *config)
{
	size_t tag_size = strlen(config->tag);
	struct virtio_9p_config *layout;
	struct p9 *p9;
	int ret;

	if (!tag_size || tag_size > VIRTIO_CONFIG_SIZE - sizeof(*layout))
		return keel_fail(EINVAL, "--share %s: '%s' is no tag", config->path, config->tag);
	p9 = calloc(1, sizeof(*p9));
	if (!p9)
		return keel_fail(ENOMEM, "out of memory");
	p9->sock = -1;
	pthread_mutex_init(&p9->lock, NULL);
	pthread_cond_init(&p9->idle, NULL);
	p9->chain = (struct virtq_chain) { .iov = p9->iov, .max = SEGMENTS };
	p9->dev.ops = &ops;
	p9->dev.queues = 1;
	p9->dev.queue_size = QUEUE_SIZE;
	p9->dev.offered = VIRTIO_BIT(VIRTIO_9P_MOUNT_TAG);
	p9->dev.config_size = sizeof(*layout) + tag_size;
	layout = (void *)p9->dev.config;
	layout->tag_len = tag_size;
	memcpy(layout->tag, config->tag, tag_size);
	ret = p9_start(p9, config);
	if (!ret)
		ret = virtio_create(&p9->dev, pci, !config->unthreaded);
	if (ret)
		p9_free(p9);
	return ret;
}
