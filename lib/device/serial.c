/* SPDX-License-Identifier: Apache-2.0 */
/* Serial lines by termios. The fd is the caller's. Any thread; nothing blocks. */
#include "device/serial.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/serial.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static const struct {
    uint32_t baud;
    speed_t speed;
} speeds[] = {
    {50, B50},           {75, B75},           {110, B110},         {134, B134},
    {150, B150},         {200, B200},         {300, B300},         {600, B600},
    {1200, B1200},       {1800, B1800},       {2400, B2400},       {4800, B4800},
    {9600, B9600},       {19200, B19200},     {38400, B38400},     {57600, B57600},
    {115200, B115200},   {230400, B230400},   {460800, B460800},   {500000, B500000},
    {576000, B576000},   {921600, B921600},   {1000000, B1000000}, {1152000, B1152000},
    {1500000, B1500000}, {2000000, B2000000}, {2500000, B2500000}, {3000000, B3000000},
    {3500000, B3500000}, {4000000, B4000000},
};

static bool speed_of(uint32_t baud, speed_t *ret)
{
    for (size_t i = 0; i < sizeof speeds / sizeof speeds[0]; i++) {
        if (speeds[i].baud == baud) {
            *ret = speeds[i].speed;
            return true;
        }
    }
    return false;
}

int kei_serial_check(const struct kei_serial_config *c, struct ke_error *err)
{
    speed_t speed;

    if (!c->path || !c->path[0])
        return kei_error(err, KE_EINVAL, "the serial port has no path");
    if (!speed_of(c->baud, &speed))
        return kei_error(err, KE_EINVAL, "serial port %s: no line has %u baud", c->path, c->baud);
    if (c->data_bits < 5 || c->data_bits > 8)
        return kei_error(err, KE_EINVAL, "serial port %s: %u data bits, need 5 to 8", c->path,
                         c->data_bits);
    if (c->stop_bits < 1 || c->stop_bits > 2)
        return kei_error(err, KE_EINVAL, "serial port %s: %u stop bits, need 1 or 2", c->path,
                         c->stop_bits);
    return 0;
}

uint32_t kei_serial_char_bits(const struct kei_serial_config *c)
{
    return 1 + c->data_bits + (c->parity != KEI_PARITY_NONE) + c->stop_bits;
}

static int set_line(int fd, const struct kei_serial_config *c, struct ke_error *err)
{
    static const tcflag_t sizes[] = {CS5, CS6, CS7, CS8};
    speed_t speed = B9600;
    struct termios t;

    if (tcgetattr(fd, &t) < 0)
        return kei_error_errno(err, errno, "%s is no serial port", c->path);
    cfmakeraw(&t);
    t.c_cflag &= ~(tcflag_t)(CSIZE | CSTOPB | PARENB | PARODD | CRTSCTS | HUPCL);
    t.c_cflag |= CLOCAL | CREAD | sizes[c->data_bits - 5];
    if (c->stop_bits == 2)
        t.c_cflag |= CSTOPB;
    if (c->parity != KEI_PARITY_NONE)
        t.c_cflag |= PARENB;
    if (c->parity == KEI_PARITY_ODD)
        t.c_cflag |= PARODD;
    t.c_iflag &= ~(tcflag_t)(INPCK | IXOFF | IXANY);
    if (c->parity != KEI_PARITY_NONE)
        t.c_iflag |= INPCK; /* a wrong character reads as 0: the checksum then fails */
    t.c_cc[VMIN] = 1;       /* else an empty line could not be told from a dead one */
    t.c_cc[VTIME] = 0;
    speed_of(c->baud, &speed);
    if (cfsetispeed(&t, speed) < 0 || cfsetospeed(&t, speed) < 0 || tcsetattr(fd, TCSANOW, &t) < 0)
        return kei_error_errno(err, errno, "could not set serial port %s to %u baud", c->path,
                               c->baud);
    return 0;
}

static bool set_rs485(int fd)
{
    struct serial_rs485 rs = {.flags = SER_RS485_ENABLED | SER_RS485_RTS_ON_SEND};

    return ioctl(fd, TIOCSRS485, &rs) == 0;
}

int kei_serial_open(int *ret_fd, const struct kei_serial_config *c, bool *ret_rs485,
                    struct ke_error *err)
{
    int r = kei_serial_check(c, err);
    if (r < 0)
        return r;
    int fd = open(c->path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return kei_error_errno(err, errno, "could not open serial port %s", c->path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        close(fd);
        return kei_error(err, KE_EBUSY, "serial port %s is in use by another program", c->path);
    }
    r = set_line(fd, c, err);
    if (r < 0) {
        close(fd);
        return r;
    }
    bool rs485 = c->rs485 && set_rs485(fd);
    if (ret_rs485)
        *ret_rs485 = rs485;
    tcflush(fd, TCIOFLUSH);
    *ret_fd = fd;
    return 0;
}
