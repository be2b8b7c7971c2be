#pragma once

#include <linux/ublk_cmd.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

/// The kernel's ublk driver, as linux/ublk_cmd.h describes it, and under the names that it has
/// there: here is what the headers of Linux 6.1, which Debian 12 builds with, do not have yet.

#ifndef UBLK_U_CMD_ADD_DEV
#define UBLK_U_CMD_GET_DEV_INFO _IOR('u', UBLK_CMD_GET_DEV_INFO, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_ADD_DEV _IOWR('u', UBLK_CMD_ADD_DEV, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_DEL_DEV _IOWR('u', UBLK_CMD_DEL_DEV, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_START_DEV _IOWR('u', UBLK_CMD_START_DEV, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_STOP_DEV _IOWR('u', UBLK_CMD_STOP_DEV, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_SET_PARAMS _IOWR('u', UBLK_CMD_SET_PARAMS, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_GET_PARAMS _IOR('u', UBLK_CMD_GET_PARAMS, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_START_USER_RECOVERY \
  _IOWR('u', UBLK_CMD_START_USER_RECOVERY, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_END_USER_RECOVERY _IOWR('u', UBLK_CMD_END_USER_RECOVERY, struct ublksrv_ctrl_cmd)
#define UBLK_U_IO_FETCH_REQ _IOWR('u', UBLK_IO_FETCH_REQ, struct ublksrv_io_cmd)
#define UBLK_U_IO_COMMIT_AND_FETCH_REQ \
  _IOWR('u', UBLK_IO_COMMIT_AND_FETCH_REQ, struct ublksrv_io_cmd)
#endif

#ifndef UBLK_U_CMD_GET_FEATURES
#define UBLK_U_CMD_GET_FEATURES _IOR('u', 0x13, struct ublksrv_ctrl_cmd)
#endif

#ifndef UBLK_F_CMD_IOCTL_ENCODE
#define UBLK_F_CMD_IOCTL_ENCODE (1UL << 6)
#endif

#ifndef UBLK_F_USER_COPY
#define UBLK_F_USER_COPY (1UL << 7)
#endif

#ifndef UBLK_F_UPDATE_SIZE
#define UBLK_F_UPDATE_SIZE (1UL << 10)
#define UBLK_U_CMD_UPDATE_SIZE _IOWR('u', 0x15, struct ublksrv_ctrl_cmd)
#endif

#ifndef UBLK_TAG_OFF
#define UBLK_TAG_OFF 25
#define UBLK_QID_OFF 41
#endif

namespace blobcache::blockdev::ublk {

/// Where in /dev/ublkcN the bytes of a request are read and written (UBLK_F_USER_COPY).
[[nodiscard]] inline uint64_t buffer_offset(uint16_t queue, uint16_t tag) {
  return UBLKSRV_IO_BUF_OFFSET + (uint64_t{queue} << UBLK_QID_OFF) +
         (uint64_t{tag} << UBLK_TAG_OFF);
}

/// Where in /dev/ublkcN the descriptors of a queue's requests are mapped.
[[nodiscard]] inline uint64_t descriptors_offset(uint16_t queue) {
  return UBLKSRV_CMD_BUF_OFFSET +
         uint64_t{queue} * UBLK_MAX_QUEUE_DEPTH * sizeof(struct ublksrv_io_desc);
}

}  // namespace blobcache::blockdev::ublk
