/* SPDX-License-Identifier: Apache-2.0 */
/* The GPIO driver, with a chip that stands in for the kernel's, and a folder for sysfs. */
#include "driver_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/gpio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/gpio.h"

#define LINES 8

/* One chip: eight lines, of which 3 is another program's and 5 has no interrupt. */
struct chip {
    char folder[200];
    bool level[LINES]; /* on the wire, not the state */
    uint64_t flags[LINES];
    uint32_t debounce[LINES];
    int fd[LINES];   /* ours, -1: free */
    int peer[LINES]; /* where events are put in */
    int history[64]; /* line * 2 + level, of each change of an output */
    uint32_t changes;
    int fail; /* errno of every call, 0: none */
};

static int chip_open(void *user, const char *path, int flags)
{
    (void)user;
    return open(path, flags);
}

static int line_of(struct chip *c, int fd)
{
    for (int i = 0; i < LINES; i++) {
        if (c->fd[i] == fd)
            return i;
    }
    return -1;
}

static int line_info(struct gpio_v2_line_info *info)
{
    uint32_t i = info->offset;

    memset(info, 0, sizeof *info);
    info->offset = i;
    snprintf(info->name, sizeof info->name, "PIN_%u", i);
    if (i == 3)
        snprintf(info->consumer, sizeof info->consumer, "spi0 CS");
    return 0;
}

static void put_level(struct chip *c, int i, bool on)
{
    c->level[i] = on != ((c->flags[i] & GPIO_V2_LINE_FLAG_ACTIVE_LOW) != 0);
    c->history[c->changes++ % 64] = i * 2 + c->level[i];
}

static void set_config(struct chip *c, int i, const struct gpio_v2_line_config *conf)
{
    c->flags[i] = conf->flags;
    for (uint32_t k = 0; k < conf->num_attrs; k++) {
        if (conf->attrs[k].attr.id == GPIO_V2_LINE_ATTR_ID_DEBOUNCE)
            c->debounce[i] = conf->attrs[k].attr.debounce_period_us;
        if (conf->attrs[k].attr.id == GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES)
            put_level(c, i, conf->attrs[k].attr.values & 1);
    }
}

static int get_line(struct chip *c, struct gpio_v2_line_request *r)
{
    uint32_t i = r->offsets[0];
    uint64_t edges = GPIO_V2_LINE_FLAG_EDGE_RISING | GPIO_V2_LINE_FLAG_EDGE_FALLING;
    int sp[2];

    assert_int_equal(r->num_lines, 1);
    assert_string_equal(r->consumer, "kubeedge");
    if (i == 3 || c->fd[i] >= 0) {
        errno = EBUSY;
        return -1;
    }
    if (i == 5 && r->config.flags & edges) {
        errno = ENXIO;
        return -1;
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sp), 0);
    c->fd[i] = r->fd = sp[0];
    c->peer[i] = sp[1];
    set_config(c, (int)i, &r->config);
    return 0;
}

static int chip_ioctl(void *user, int fd, unsigned long request, void *arg)
{
    struct chip *c = user;
    struct gpio_v2_line_values *v = arg;
    int i = line_of(c, fd);

    if (c->fail) {
        errno = c->fail;
        return -1;
    }
    switch (request) {
    case GPIO_GET_CHIPINFO_IOCTL:
        ((struct gpiochip_info *)arg)->lines = LINES;
        return 0;
    case GPIO_V2_GET_LINEINFO_IOCTL:
        return line_info(arg);
    case GPIO_V2_GET_LINE_IOCTL:
        return get_line(c, arg);
    case GPIO_V2_LINE_SET_CONFIG_IOCTL:
        set_config(c, i, arg);
        return 0;
    case GPIO_V2_LINE_GET_VALUES_IOCTL:
        v->bits = c->level[i] != ((c->flags[i] & GPIO_V2_LINE_FLAG_ACTIVE_LOW) != 0);
        return 0;
    case GPIO_V2_LINE_SET_VALUES_IOCTL:
        assert_true(c->flags[i] & GPIO_V2_LINE_FLAG_OUTPUT);
        put_level(c, i, v->bits & 1);
        return 0;
    default:
        errno = ENOTTY;
        return -1;
    }
}

static void edge(struct chip *c, int i, bool level)
{
    struct gpio_v2_line_event e = {.offset = (uint32_t)i};

    c->level[i] = level;
    assert_int_equal(write(c->peer[i], &e, sizeof e), sizeof e);
}

static void write_text(const char *folder, const char *name, const char *text)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static const char *read_text(const char *folder, const char *name)
{
    static char text[64];
    char path[400];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

struct bench {
    struct rig rig;
    struct chip chip;
    struct rig_device d;
};

static void setup(struct bench *b)
{
    struct kei_gpio_calls calls = {&b->chip, chip_open, chip_ioctl};
    struct ke_gpio_config c;
    struct kei_gpio *g = NULL;

    memset(&b->chip, 0, sizeof b->chip);
    for (int i = 0; i < LINES; i++)
        b->chip.fd[i] = b->chip.peer[i] = -1;
    test_tmp_make(b->chip.folder, sizeof b->chip.folder);
    write_text(b->chip.folder, "gpiochip1", "");
    rig_init(&b->rig, 0);
    ke_gpio_config_init(&c, sizeof c);
    c.dev_folder = c.sys_folder = b->chip.folder;
    assert_int_equal(kei_gpio_new(&g, b->rig.env.ctx, &c, &calls), 0);
    rig_driver(&b->rig, &kei_gpio_ops, g);
}

static void teardown(struct bench *b)
{
    for (int i = 0; i < LINES; i++) {
        if (b->chip.peer[i] >= 0)
            close(b->chip.peer[i]);
    }
    rig_fini(&b->rig);
    test_tmp_remove(b->chip.folder);
}

#define CHIP "{\"chip\":\"gpiochip1\"}"

static void lines_of_a_chip(void **state)
{
    static const struct rig_property p[] = {
        {"{\"line\":2,\"direction\":\"in\",\"bias\":\"pull-up\",\"debounce\":5000}",
         KE_DEVICE_BOOLEAN},
        {"{\"line\":\"PIN_4\",\"direction\":\"in\",\"activeLow\":true}", KE_DEVICE_INT},
        {"{\"line\":\"6\",\"direction\":\"OUT\",\"drive\":\"open-drain\",\"initial\":1}",
         KE_DEVICE_STRING},
        {"{\"line\":7}", KE_DEVICE_BOOLEAN}, /* can be written: an output */
    };
    struct bench b;

    (void)state;
    setup(&b);
    b.chip.level[2] = b.chip.level[7] = true;
    assert_int_equal(rig_open(&b.rig, &b.d, CHIP, p, 4), 0);
    assert_true(b.chip.flags[2] & GPIO_V2_LINE_FLAG_INPUT);
    assert_true(b.chip.flags[2] & GPIO_V2_LINE_FLAG_BIAS_PULL_UP);
    assert_int_equal(b.chip.debounce[2], 5000);
    assert_true(b.chip.flags[4] & GPIO_V2_LINE_FLAG_ACTIVE_LOW);
    assert_true(b.chip.flags[6] & GPIO_V2_LINE_FLAG_OPEN_DRAIN);
    assert_true(b.chip.flags[7] & GPIO_V2_LINE_FLAG_OUTPUT);
    /* an output keeps its level: nothing ever put it to another */
    assert_int_equal(b.chip.changes, 2);
    assert_int_equal(b.chip.history[0], 6 * 2 + 1);
    assert_int_equal(b.chip.history[1], 7 * 2 + 1);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.kind, KE_DEVICE_KIND_BOOL);
    assert_int_equal(rig_value(&b.d, 0)->v.i, 1);
    assert_int_equal(rig_value(&b.d, 1)->v.i, 1); /* low is active */
    assert_int_equal(rig_value(&b.d, 2)->v.n, 2);
    assert_memory_equal(rig_value(&b.d, 2)->bytes, "ON", 2);
    assert_int_equal(rig_write_text(&b.d, 2, "off"), 0);
    assert_int_equal(b.d.n_values, 0);
    assert_false(b.chip.level[6]);
    assert_int_equal(rig_write_int(&b.d, 3, 0), 0);
    assert_false(b.chip.level[7]);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_memory_equal(rig_value(&b.d, 2)->bytes, "OFF", 3);
    assert_int_equal(rig_value(&b.d, 3)->v.i, 0);
    /* what cannot be written */
    assert_int_equal(rig_write_int(&b.d, 0, 1), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.status, KE_EACCES);
    assert_string_equal(rig_value(&b.d, 0)->text, "GPIO line 2 is an input");
    assert_int_equal(rig_write_text(&b.d, 2, "half"), 0);
    assert_int_equal(rig_value(&b.d, 2)->v.status, KE_EPARSE);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static bool reported(void *device)
{
    return ((struct rig_device *)device)->reports > 0;
}

static void inputs_tell_their_changes(void **state)
{
    static const struct rig_property p[] = {
        {"{\"line\":1,\"direction\":\"in\"}", KE_DEVICE_BOOLEAN},
        {"{\"line\":2,\"direction\":\"in\"}", KE_DEVICE_BOOLEAN},
        {"{\"line\":5,\"direction\":\"in\"}", KE_DEVICE_BOOLEAN},
    };
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(rig_open(&b.rig, &b.d, CHIP, p, 2), 0);
    assert_int_equal(rig_subscribe(&b.d), 0);
    edge(&b.chip, 2, true);
    assert_true(test_drive(&b.rig.env, reported, &b.d));
    assert_int_equal(b.d.reported[1].v.i, 1);
    assert_int_equal(b.d.reported[0].v.kind, KE_DEVICE_KIND_NONE);
    b.d.reports = 0;
    for (int i = 0; i < 20; i++) /* more than one read takes: what counts is the level now */
        edge(&b.chip, 2, i & 1);
    edge(&b.chip, 2, false);
    assert_true(test_drive(&b.rig.env, reported, &b.d));
    assert_int_equal(b.d.reported[1].v.i, 0);
    /* the chip goes away */
    close(b.chip.peer[2]);
    b.chip.peer[2] = -1;
    test_settle(&b.rig.env);
    assert_int_equal(b.d.lost, KE_ECLOSED);
    assert_string_equal(b.d.lost_text, "GPIO line 2 went away");
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
    /* one line has no interrupt: all are polled */
    setup(&b);
    assert_int_equal(rig_open(&b.rig, &b.d, CHIP, p, 3), 0);
    assert_int_equal(rig_subscribe(&b.d), KE_ENOTSUP);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(rig_value(&b.d, 2)->v.i, 0);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void what_cannot_be_opened(void **state)
{
    static const struct {
        const char *config, *visitor;
        uint32_t type;
        int status;
        const char *text;
    } t[] = {
        {CHIP, "{}", KE_DEVICE_BOOLEAN, KE_EINVAL, "property p: \"line\" is missing"},
        {CHIP, "{\"line\":8}", KE_DEVICE_BOOLEAN, KE_ENOTFOUND,
         "GPIO chip gpiochip1 has 8 lines, there is no line 8"},
        {CHIP, "{\"line\":\"LED\"}", KE_DEVICE_BOOLEAN, KE_ENOTFOUND,
         "GPIO chip gpiochip1 has no line \"LED\""},
        {CHIP, "{\"line\":3}", KE_DEVICE_BOOLEAN, KE_EBUSY,
         "line 3 of GPIO chip gpiochip1 is in use by \"spi0 CS\""},
        {CHIP, "{\"line\":1,\"bias\":\"up\"}", KE_DEVICE_BOOLEAN, KE_EINVAL,
         "\"bias\" is \"up\", possible is as-is, none, pull-up, pull-down"},
        {CHIP, "{\"line\":1}", KE_DEVICE_FLOAT, KE_EINVAL, "a boolean, an int or a string"},
        {"{\"chip\":\"../../etc/passwd\"}", "{\"line\":1}", KE_DEVICE_BOOLEAN, KE_EINVAL,
         "a name such as gpiochip0"},
        {"{}", "{\"line\":\"LED\"}", KE_DEVICE_BOOLEAN, KE_ENOTFOUND,
         "there is no GPIO chip gpiochip0; sysfs has lines by number only"},
        {"{}", "{\"line\":1}", KE_DEVICE_BOOLEAN, KE_ENOTFOUND, "there is no GPIO chip gpiochip0"},
    };
    struct bench b;

    (void)state;
    setup(&b);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct rig_property p = {t[i].visitor, t[i].type};
        int r = rig_open(&b.rig, &b.d, t[i].config, &p, 1);
        if (r != t[i].status || !strstr(b.d.text, t[i].text))
            fail_msg("%zu: %d %s", i, r, b.d.text);
        assert_int_equal(rig_read_all(&b.d), KE_ESTATE);
        assert_int_equal(rig_close(&b.d), 0);
    }
    teardown(&b);
}

static void a_chip_that_goes_away(void **state)
{
    static const struct rig_property p[] = {{"{\"line\":1}", KE_DEVICE_BOOLEAN}};
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(rig_open(&b.rig, &b.d, CHIP, p, 1), 0);
    b.chip.fail = ENODEV;
    assert_int_equal(rig_read_all(&b.d), KE_ECLOSED);
    assert_non_null(strstr(b.d.text, "could not read GPIO line 1"));
    assert_int_equal(rig_write_int(&b.d, 0, 1), KE_ECLOSED);
    b.chip.fail = EIO; /* a fault of one line */
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.status, KE_EIO);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void sysfs(void **state)
{
    static const struct rig_property p[] = {
        {"{\"line\":2,\"direction\":\"in\"}", KE_DEVICE_BOOLEAN},
        {"{\"line\":3,\"direction\":\"out\",\"activeLow\":true,\"initial\":1}", KE_DEVICE_STRING},
    };
    struct bench b;
    char folder[300];

    (void)state;
    setup(&b);
    /* what the kernel would make of the chip and of an export */
    snprintf(folder, sizeof folder, "%s/chip", b.chip.folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    write_text(folder, "base", "500\n");
    write_text(b.chip.folder, "export", "");
    for (int i = 502; i < 504; i++) {
        snprintf(folder, sizeof folder, "%s/gpio%d", b.chip.folder, i);
        assert_int_equal(mkdir(folder, 0700), 0);
        write_text(folder, "active_low", "0");
        write_text(folder, "direction", "");
        write_text(folder, "value", "1\n");
    }
    /* the folder has the chip's data, but no character device of that name */
    char from[300], to[300];
    snprintf(from, sizeof from, "%s/chip", b.chip.folder);
    snprintf(to, sizeof to, "%s/sys", b.chip.folder);
    assert_int_equal(mkdir(to, 0700), 0);
    snprintf(to, sizeof to, "%s/dev", b.chip.folder);
    assert_int_equal(mkdir(to, 0700), 0);
    struct ke_gpio_config c;
    struct kei_gpio *g = NULL;
    struct kei_gpio_calls calls = {&b.chip, chip_open, chip_ioctl};
    b.rig.ops->detach(b.rig.user);
    ke_gpio_config_init(&c, sizeof c);
    c.dev_folder = to;
    c.sys_folder = b.chip.folder;
    assert_int_equal(kei_gpio_new(&g, b.rig.env.ctx, &c, &calls), 0);
    rig_driver(&b.rig, &kei_gpio_ops, g);
    assert_int_equal(rig_open(&b.rig, &b.d, "{\"chip\":\"chip\"}", p, 2), 0);
    assert_string_equal(read_text(b.chip.folder, "export"), "503");
    assert_string_equal(read_text(b.chip.folder, "gpio502/direction"), "in");
    assert_string_equal(read_text(b.chip.folder, "gpio503/direction"), "low"); /* on, inverted */
    assert_string_equal(read_text(b.chip.folder, "gpio503/active_low"), "1");
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.i, 1);
    assert_int_equal(rig_write_text(&b.d, 1, "OFF"), 0);
    assert_string_equal(read_text(b.chip.folder, "gpio503/value"), "0\n");
    assert_int_equal(rig_subscribe(&b.d), KE_ENOTSUP);
    write_text(b.chip.folder, "gpio502/value", "?");
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.status, KE_EIO);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void out_of_memory(void **state)
{
    static const struct rig_property p[] = {{"{\"line\":1}", KE_DEVICE_BOOLEAN}};
    bool whole = false;

    (void)state;
    for (size_t n = 1; !whole; n++) {
        struct bench b;
        setup(&b);
        test_alloc_fail_at(&b.rig.env.alloc, n);
        whole = rig_open(&b.rig, &b.d, CHIP, p, 1) == 0 && rig_read_all(&b.d) == 0 &&
                rig_write_int(&b.d, 0, 1) == 0 && b.rig.env.alloc.failed == 0;
        test_alloc_fail_at(&b.rig.env.alloc, 0);
        if (b.d.is_open)
            assert_int_equal(rig_close(&b.d), 0);
        teardown(&b);
        assert_true(n < 100);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(lines_of_a_chip),
        KE_TEST(inputs_tell_their_changes),
        KE_TEST(what_cannot_be_opened),
        KE_TEST(a_chip_that_goes_away),
        KE_TEST(sysfs),
        KE_TEST(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
