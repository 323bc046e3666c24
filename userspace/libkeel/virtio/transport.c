// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PCI transport of virtio 1.2 (4.1), modern only.
 *
 * BAR 0 has the four structures, a page each: common configuration, ISR status, device configuration
 * and the notification addresses, one for each queue, all of which are ioeventfds. BAR 1 is MSI-X's:
 * vector n + 1 is meant for queue n, but the driver decides.
 *
 * vCPU threads work on the registers under dev->lock. A change that stops or starts the device runs
 * on its loop, while the vCPU waits with the lock held; so nothing on a loop may take that lock, and
 * what both sides write (status, ISR, the device's configuration) has an atomic or a lock of its own.
 */
#include <errno.h>
#include <linux/virtio_pci.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio.h"

#define VENDOR_VIRTIO	0x1af4
#define DEVICE_MODERN	0x1040		/* plus the type */
#define CAP_VENDOR	0x09

#define PAGE		0x1000u
#define AT_COMMON	0x0000u
#define AT_ISR		0x1000u
#define AT_DEVICE	0x2000u
#define AT_NOTIFY	0x3000u
#define BAR_SIZE	0x4000u
#define NOTIFY_STEP	4u

#define ISR_QUEUE	1
#define ISR_CONFIG	2

#define COMMON(field)	offsetof(struct virtio_pci_common_cfg, field)

static struct virtio *virtio_of(struct keel_pci_dev *pci)
{
	return (struct virtio *)pci;
}

/* Interrupts ------------------------------------------------------------------------------- */

static void interrupt(struct virtio *dev, uint16_t vector, uint8_t isr)
{
	if (keel_msix_enabled(&dev->pci)) {
		int fd = keel_msix_fd(&dev->pci, vector);

		if (fd >= 0)
			keel_eventfd_signal(fd);
		return;
	}
	pthread_mutex_lock(&dev->isr_lock);
	dev->isr |= isr;
	keel_pci_pin(&dev->pci, true);
	pthread_mutex_unlock(&dev->isr_lock);
}

void virtio_interrupt(struct virtq *q)
{
	interrupt(q->dev, q->vector, ISR_QUEUE);
}

/* Reading it ends the interrupt (4.1.4.5). */
static uint8_t isr_take(struct virtio *dev)
{
	uint8_t isr;

	pthread_mutex_lock(&dev->isr_lock);
	isr = dev->isr;
	dev->isr = 0;
	keel_pci_pin(&dev->pci, false);
	pthread_mutex_unlock(&dev->isr_lock);
	return isr;
}

int virtq_message_fd(struct virtq *q)
{
	return keel_msix_enabled(&q->dev->pci) ? keel_msix_fd(&q->dev->pci, q->vector) : -1;
}

void virtio_broken(struct virtio *dev, const char *why)
{
	if (atomic_fetch_or(&dev->status, VIRTIO_CONFIG_S_NEEDS_RESET) & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	dev->generation++;
	keel_note("virtio-%s: the guest's driver is at fault: %s", dev->ops->name, why);
	interrupt(dev, dev->config_vector, ISR_CONFIG);
}

void virtio_config_set(struct virtio *dev, unsigned int offset, const void *data,
		       unsigned int size)
{
	pthread_mutex_lock(&dev->config_lock);
	memcpy(dev->config + offset, data, size);
	dev->generation++;
	pthread_mutex_unlock(&dev->config_lock);
	if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(dev, dev->config_vector, ISR_CONFIG);
}

/* Life of the device, on its loop ---------------------------------------------------------- */

static void kicked(void *opaque)
{
	struct virtq *q = opaque;

	if (keel_eventfd_clear(q->kick.fd) && q->running &&
	    !(q->dev->status & VIRTIO_CONFIG_S_NEEDS_RESET))
		q->dev->ops->kick(q->dev, q->index);
}

void virtq_watch(struct virtq *q, bool watch)
{
	if (q->watched == watch)
		return;
	q->watched = watch;
	if (!watch)
		keel_loop_remove(q->dev->loop, &q->kick);
	else if (keel_loop_add(q->dev->loop, &q->kick))
		virtio_broken(q->dev, keel_error());
}

static void start(void *opaque)
{
	struct virtio *dev = opaque;

	for (unsigned int i = 0; i < dev->queues; i++)
		dev->queue[i].running = dev->queue[i].enabled;
	dev->started = true;
	if (dev->ops->start)
		dev->ops->start(dev);
	/* what was made available before */
	for (unsigned int i = 0; i < dev->queues; i++)
		if (dev->queue[i].watched)
			keel_eventfd_signal(dev->queue[i].kick.fd);
}

static void stop(void *opaque)
{
	struct virtio *dev = opaque;

	if (dev->started && dev->ops->stop)
		dev->ops->stop(dev);
	dev->started = false;
	for (unsigned int i = 0; i < dev->queues; i++) {
		struct virtq *q = &dev->queue[i];

		virtq_watch(q, true);
		keel_eventfd_clear(q->kick.fd);
		q->running = q->enabled = false;
		q->size = dev->queue_size;
		q->vector = MSIX_NONE;
		q->desc_gpa = q->avail_gpa = q->used_gpa = 0;
	}
	dev->features = 0;
	dev->config_vector = MSIX_NONE;
	dev->offered_select = dev->features_select = 0;
	dev->queue_select = 0;
	isr_take(dev);
	dev->status = 0;
}

/* Common configuration (4.1.4.3), under dev->lock ------------------------------------------ */

static uint64_t all_offered(const struct virtio *dev)
{
	return dev->offered | VIRTIO_BIT(VIRTIO_F_VERSION_1) |
	       VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX);
}

static uint32_t half(uint64_t value, uint32_t select)
{
	return select > 1 ? 0 : value >> (32 * select);
}

static void status_write(struct virtio *dev, uint8_t value)
{
	uint8_t before = dev->status, new = value & ~before;

	if (!value) {
		keel_loop_call(dev->loop, stop, dev);
		return;
	}
	if (before & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	if (new & VIRTIO_CONFIG_S_FEATURES_OK &&
	    (dev->features & ~all_offered(dev) || !virtio_has(dev, VIRTIO_F_VERSION_1)))
		new &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	/* no way past the features, and none back but by reset */
	if (!((before | new) & VIRTIO_CONFIG_S_FEATURES_OK))
		new &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	new &= ~VIRTIO_CONFIG_S_NEEDS_RESET;
	atomic_fetch_or(&dev->status, new);
	if (new & VIRTIO_CONFIG_S_DRIVER_OK)
		keel_loop_call(dev->loop, start, dev);
}

static void queue_enable(struct virtio *dev, struct virtq *q)
{
	/* all of a queue is set before it runs: not then, and not twice */
	if (q->enabled || dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		return;
	if (!virtq_map(q)) {
		virtio_broken(dev, "the rings of a queue do not lie in memory");
		return;
	}
	q->enabled = true;
}

static void half_write(uint64_t *to, bool high, uint32_t value)
{
	*to = high ? (*to & 0xffffffff) | (uint64_t)value << 32 : (*to & ~0xffffffffULL) | value;
}

static uint16_t vector_checked(const struct virtio *dev, uint16_t vector)
{
	return vector < dev->pci.vectors ? vector : MSIX_NONE;
}

static void queue_write(struct virtio *dev, struct virtq *q, unsigned int offset, uint32_t value)
{
	switch (offset) {
	case COMMON(queue_size):
		if (!q->enabled && value && value <= dev->queue_size && !(value & (value - 1)))
			q->size = value;
		break;
	case COMMON(queue_msix_vector):
		q->vector = vector_checked(dev, value);
		break;
	case COMMON(queue_enable):
		if (value == 1)
			queue_enable(dev, q);
		break;
	case COMMON(queue_desc_lo):
	case COMMON(queue_desc_hi):
		if (!q->enabled)
			half_write(&q->desc_gpa, offset == COMMON(queue_desc_hi), value);
		break;
	case COMMON(queue_avail_lo):
	case COMMON(queue_avail_hi):
		if (!q->enabled)
			half_write(&q->avail_gpa, offset == COMMON(queue_avail_hi), value);
		break;
	case COMMON(queue_used_lo):
	case COMMON(queue_used_hi):
		if (!q->enabled)
			half_write(&q->used_gpa, offset == COMMON(queue_used_hi), value);
		break;
	}
}

static void common_write(struct virtio *dev, unsigned int offset, uint32_t value)
{
	switch (offset) {
	case COMMON(device_feature_select):
		dev->offered_select = value;
		break;
	case COMMON(guest_feature_select):
		dev->features_select = value;
		break;
	case COMMON(guest_feature):
		if (!(dev->status & VIRTIO_CONFIG_S_FEATURES_OK) && dev->features_select <= 1)
			half_write(&dev->features, dev->features_select, value);
		break;
	case COMMON(msix_config):
		dev->config_vector = vector_checked(dev, value);
		break;
	case COMMON(device_status):
		status_write(dev, value);
		break;
	case COMMON(queue_select):
		dev->queue_select = value;
		break;
	default:
		if (dev->queue_select < dev->queues)
			queue_write(dev, &dev->queue[dev->queue_select], offset, value);
		break;
	}
}

static uint32_t queue_read(const struct virtq *q, unsigned int offset)
{
	switch (offset) {
	case COMMON(queue_size):
		return q->size;
	case COMMON(queue_msix_vector):
		return q->vector;
	case COMMON(queue_enable):
		return q->enabled;
	case COMMON(queue_notify_off):
		return q->index;
	case COMMON(queue_desc_lo):
		return q->desc_gpa;
	case COMMON(queue_desc_hi):
		return q->desc_gpa >> 32;
	case COMMON(queue_avail_lo):
		return q->avail_gpa;
	case COMMON(queue_avail_hi):
		return q->avail_gpa >> 32;
	case COMMON(queue_used_lo):
		return q->used_gpa;
	case COMMON(queue_used_hi):
		return q->used_gpa >> 32;
	default:
		return 0;
	}
}

static uint32_t common_read(const struct virtio *dev, unsigned int offset)
{
	switch (offset) {
	case COMMON(device_feature_select):
		return dev->offered_select;
	case COMMON(device_feature):
		return half(all_offered(dev), dev->offered_select);
	case COMMON(guest_feature_select):
		return dev->features_select;
	case COMMON(guest_feature):
		return half(dev->features, dev->features_select);
	case COMMON(msix_config):
		return dev->config_vector;
	case COMMON(num_queues):
		return dev->queues;
	case COMMON(device_status):
		return dev->status;
	case COMMON(config_generation):
		return dev->generation;
	case COMMON(queue_select):
		return dev->queue_select;
	default:
		if (dev->queue_select < dev->queues)
			return queue_read(&dev->queue[dev->queue_select], offset);
		return 0;
	}
}

/* BAR 0 ------------------------------------------------------------------------------------ */

static uint64_t device_read(struct virtio *dev, unsigned int offset, unsigned int size)
{
	uint64_t value = 0;

	if (offset >= dev->config_size || size > dev->config_size - offset)
		return 0;
	pthread_mutex_lock(&dev->config_lock);
	memcpy(&value, dev->config + offset, size);
	pthread_mutex_unlock(&dev->config_lock);
	return value;
}

static void device_write(struct virtio *dev, unsigned int offset, uint64_t value,
			 unsigned int size)
{
	if (offset < dev->config_first || offset >= dev->config_end ||
	    size > dev->config_end - offset)
		return;
	pthread_mutex_lock(&dev->config_lock);
	memcpy(dev->config + offset, &value, size);
	pthread_mutex_unlock(&dev->config_lock);
	if (dev->ops->config_written)
		dev->ops->config_written(dev, offset, size);
}

static uint64_t bar_read(struct keel_pci_dev *pci, unsigned int bar, uint64_t offset,
			 unsigned int size)
{
	struct virtio *dev = virtio_of(pci);
	uint64_t value = 0;

	(void)bar;
	if (offset == AT_ISR)
		return isr_take(dev);
	pthread_mutex_lock(&dev->lock);
	if (offset < AT_ISR)
		value = common_read(dev, offset);
	else if (offset >= AT_DEVICE && offset < AT_NOTIFY)
		value = device_read(dev, offset - AT_DEVICE, size);
	pthread_mutex_unlock(&dev->lock);
	return value;
}

static void bar_write(struct keel_pci_dev *pci, unsigned int bar, uint64_t offset, uint64_t value,
		      unsigned int size)
{
	struct virtio *dev = virtio_of(pci);
	uint64_t queue = (offset - AT_NOTIFY) / NOTIFY_STEP;

	(void)bar;
	if (offset >= AT_NOTIFY) {
		/* what the host did not take as an ioeventfd */
		if (queue < dev->queues)
			keel_eventfd_signal(dev->queue[queue].kick.fd);
		return;
	}
	pthread_mutex_lock(&dev->lock);
	if (offset < AT_ISR)
		common_write(dev, offset, value);
	else if (offset >= AT_DEVICE)
		device_write(dev, offset - AT_DEVICE, value, size);
	pthread_mutex_unlock(&dev->lock);
}

static void bar_moved(struct keel_pci_dev *pci, unsigned int bar, uint64_t address, bool mapped)
{
	const struct keel_host *host = keel_pci_host(pci->pci);
	struct virtio *dev = virtio_of(pci);

	for (unsigned int i = 0; !bar && i < dev->queues; i++)
		host->ioeventfd(host->opaque, false, address + AT_NOTIFY + i * NOTIFY_STEP, 2,
				dev->queue[i].kick.fd, mapped);
}

/* The window in configuration space (4.1.4.9) ---------------------------------------------- */

#define CFG_DATA	offsetof(struct virtio_pci_cfg_cap, pci_cfg_data)

/* Is [@offset, @offset + @size) its data, and does that stand for registers? Then where and how many. */
static bool window(const struct virtio *dev, unsigned int offset, unsigned int size, uint32_t *at,
		   uint32_t *length)
{
	unsigned int cap = dev->cfg_cap;

	if (offset >= cap + CFG_DATA + 4 || offset + size <= cap + CFG_DATA)
		return false;
	*at = keel_pci_get(&dev->pci, cap + offsetof(struct virtio_pci_cap, offset), 4);
	*length = keel_pci_get(&dev->pci, cap + offsetof(struct virtio_pci_cap, length), 4);
	return !dev->pci.config[cap + offsetof(struct virtio_pci_cap, bar)] &&
	       (*length == 1 || *length == 2 || *length == 4) && *at <= BAR_SIZE - *length &&
	       !(*at % *length);
}

static void config_read(struct keel_pci_dev *pci, unsigned int offset, unsigned int size)
{
	struct virtio *dev = virtio_of(pci);
	uint32_t at, length;

	if (window(dev, offset, size, &at, &length))
		keel_pci_set32(pci, dev->cfg_cap + CFG_DATA, bar_read(pci, 0, at, length));
}

static void config_written(struct keel_pci_dev *pci, unsigned int offset, unsigned int size)
{
	struct virtio *dev = virtio_of(pci);
	uint32_t at, length;

	if (window(dev, offset, size, &at, &length))
		bar_write(pci, 0, at, keel_pci_get(pci, dev->cfg_cap + CFG_DATA, length), length);
}

/* Creation --------------------------------------------------------------------------------- */

static unsigned int cap_add(struct virtio *dev, uint8_t type, uint32_t at, uint32_t length,
			    unsigned int size)
{
	unsigned int cap = keel_pci_capability(&dev->pci, CAP_VENDOR, size);

	dev->pci.config[cap + offsetof(struct virtio_pci_cap, cap_len)] = size;
	dev->pci.config[cap + offsetof(struct virtio_pci_cap, cfg_type)] = type;
	keel_pci_set32(&dev->pci, cap + offsetof(struct virtio_pci_cap, offset), at);
	keel_pci_set32(&dev->pci, cap + offsetof(struct virtio_pci_cap, length), length);
	return cap;
}

static void caps_add(struct virtio *dev)
{
	const unsigned int size = sizeof(struct virtio_pci_cap);
	unsigned int cap;

	cap_add(dev, VIRTIO_PCI_CAP_COMMON_CFG, AT_COMMON, sizeof(struct virtio_pci_common_cfg), size);
	cap_add(dev, VIRTIO_PCI_CAP_ISR_CFG, AT_ISR, 1, size);
	if (dev->config_size)
		cap_add(dev, VIRTIO_PCI_CAP_DEVICE_CFG, AT_DEVICE, dev->config_size, size);
	cap = cap_add(dev, VIRTIO_PCI_CAP_NOTIFY_CFG, AT_NOTIFY, dev->queues * NOTIFY_STEP,
		      sizeof(struct virtio_pci_notify_cap));
	keel_pci_set32(&dev->pci, cap + size, NOTIFY_STEP);
	cap = cap_add(dev, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, sizeof(struct virtio_pci_cfg_cap));
	dev->cfg_cap = cap;
	dev->pci.writable[cap + offsetof(struct virtio_pci_cap, bar)] = 0xff;
	memset(dev->pci.writable + cap + offsetof(struct virtio_pci_cap, offset), 0xff, 12);
}

static void describe(struct keel_pci_dev *pci, char *text, size_t size)
{
	struct virtio *dev = virtio_of(pci);
	char more[96] = "";

	if (dev->ops->describe)
		dev->ops->describe(dev, more, sizeof(more));
	snprintf(text, size, "virtio-%s, status 0x%02x%s%s", dev->ops->name, dev->status,
		 *more ? ", " : "", more);
}

static void queues_close(struct virtio *dev)
{
	for (unsigned int i = 0; i < dev->queues; i++)
		if (dev->queue[i].kick.fd >= 0)
			close(dev->queue[i].kick.fd);
}

static void destroy(struct keel_pci_dev *pci)
{
	struct virtio *dev = virtio_of(pci);

	keel_loop_call(dev->loop, stop, dev);
	keel_loop_destroy(dev->loop);
	queues_close(dev);
	pthread_mutex_destroy(&dev->lock);
	pthread_mutex_destroy(&dev->config_lock);
	pthread_mutex_destroy(&dev->isr_lock);
	dev->ops->destroy(dev);
}

static const struct keel_pci_ops pci_ops = {
	.name = "virtio", .read = bar_read, .write = bar_write, .moved = bar_moved,
	.config_read = config_read, .config_written = config_written, .describe = describe,
	.destroy = destroy,
};

static int queues_create(struct virtio *dev)
{
	for (unsigned int i = 0; i < dev->queues; i++) {
		struct virtq *q = &dev->queue[i];
		int ret;

		q->dev = dev;
		q->index = i;
		q->kick.ready = kicked;
		q->kick.opaque = q;
		q->kick.fd = keel_eventfd();
		q->size = dev->queue_size;
		q->vector = MSIX_NONE;
		if (q->kick.fd < 0)
			return q->kick.fd;
		ret = keel_loop_add(dev->loop, &q->kick);
		if (ret)
			return ret;
		q->watched = true;
	}
	return 0;
}

static void identity_set(struct virtio *dev)
{
	struct keel_pci_dev *pci = &dev->pci;

	pci->ops = &pci_ops;
	keel_pci_set16(pci, PCI_VENDOR, VENDOR_VIRTIO);
	keel_pci_set16(pci, PCI_DEVICE, DEVICE_MODERN + dev->ops->type);
	keel_pci_set16(pci, PCI_SUBSYSTEM_VENDOR, VENDOR_VIRTIO);
	keel_pci_set16(pci, PCI_SUBSYSTEM, 0x40 + dev->ops->type);
	pci->config[PCI_REVISION] = 1;
	pci->config[PCI_CLASS + 1] = dev->ops->subclass;
	pci->config[PCI_CLASS + 2] = dev->ops->class;
	pci->config[PCI_INT_PIN] = 1;
	pci->bar[0].size = BAR_SIZE;
	pci->vectors = dev->queues + 1;
	pci->msix_bar = 1;
	caps_add(dev);
}

int virtio_create(struct virtio *dev, struct keel_pci *pci, bool threaded)
{
	char name[16];
	int ret;

	if (!dev->queue_size)
		dev->queue_size = VIRTQ_SIZE;
	dev->memory = keel_pci_memory(pci);
	dev->config_vector = MSIX_NONE;
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->config_lock, NULL);
	pthread_mutex_init(&dev->isr_lock, NULL);
	for (unsigned int i = 0; i < dev->queues; i++)
		dev->queue[i].kick.fd = -1;
	identity_set(dev);
	snprintf(name, sizeof(name), "virtio-%s", dev->ops->name);
	ret = keel_loop_create(threaded ? name : NULL, &dev->loop);
	if (!ret)
		ret = queues_create(dev);
	if (!ret)
		ret = keel_pci_add(pci, &dev->pci);
	if (ret) {
		keel_loop_destroy(dev->loop);
		queues_close(dev);
	}
	return ret;
}
