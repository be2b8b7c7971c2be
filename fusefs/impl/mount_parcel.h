#pragma once

#include <sys/types.h>

#include <string>

#include "base/parcel.h"
#include "fusefs/mount.h"

namespace blobcache::fusefs {

// What a mount that is handed over is like. read_options() gives what add_options() was given, or
// anything when the reader's status says so.

void add_options(base::ParcelWriter& parcel, const MountOptions& options);
[[nodiscard]] MountOptions read_options(base::ParcelReader& parcel);

/// The number of a device from "MAJOR:MINOR", as mountinfo has it; 0 for anything else.
[[nodiscard]] dev_t parse_device(const std::string& text);

}  // namespace blobcache::fusefs
