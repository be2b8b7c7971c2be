#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/types/span.h"

namespace blobcache::base {

/// Two lower-case hex digits a byte.
[[nodiscard]] std::string to_hex(absl::Span<const uint8_t> bytes);

/// Fills `bytes` from exactly twice as many hex digits of either case. False for anything else.
[[nodiscard]] bool from_hex(std::string_view text, absl::Span<uint8_t> bytes);

}  // namespace blobcache::base
