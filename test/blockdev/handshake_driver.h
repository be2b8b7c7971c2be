#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "blockdev/impl/device.h"
#include "blockdev/impl/export_directory.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_handshake.h"
#include "blockdev/tls.h"
#include "test/blockdev/raw_client.h"

namespace blobcache::blockdev {

// The types of option replies that are errors.
inline constexpr uint32_t kUnsup = 0x80000001;
inline constexpr uint32_t kPolicy = 0x80000002;
inline constexpr uint32_t kInvalid = 0x80000003;
inline constexpr uint32_t kTlsReqd = 0x80000005;
inline constexpr uint32_t kUnknown = 0x80000006;
inline constexpr uint32_t kTooBig = 0x80000009;
inline constexpr uint32_t kExtHeaderReqd = 0x8000000a;

/// A device that only has a size.
class SizedDevice : public Device {
 public:
  explicit SizedDevice(bool writable) : writable_(writable) {}
  uint64_t size_bytes() const override { return 0x123456; }
  bool read_only() const override { return !writable_; }
  bool can_zero_fast() const override { return writable_; }
  uint64_t identity() const override { return 1; }
  std::string description() const override { return "only a size"; }
  bool try_read(uint64_t, uint64_t, page::PinnedRange&) override { return false; }
  page::PendingRead read(uint64_t, uint64_t, ReadDone done) override {
    done(absl::UnavailableError("only a size"));
    return {};
  }
  page::PendingRead map(uint64_t, uint64_t, size_t, MapDone done) override {
    done(absl::UnavailableError("only a size"));
    return {};
  }

 private:
  const bool writable_;
};

class Directory : public ExportDirectory {
 public:
  absl::StatusOr<OpenExport> open(std::string_view name) override {
    if (name.empty()) name = "files/a";
    if (name == "files/away") return absl::UnavailableError("the server is away");
    if (name != "files/a" && name != "files/w") return absl::NotFoundError("no");
    return OpenExport{std::string(name), std::make_shared<SizedDevice>(name == "files/w")};
  }
  absl::StatusOr<ExportList> list(size_t limit) override {
    listed_with = limit;
    return ExportList{{{"files/a", 1}, {"files/b", 2}}, {}};
  }
  size_t listed_with = 0;
};

inline std::string option(uint32_t number, std::string_view data) {
  return "IHAVEOPT" + be32(number) + be32(static_cast<uint32_t>(data.size())) + std::string(data);
}

inline std::string reply(uint32_t number, uint32_t type, std::string_view data = {}) {
  return be64(0x3e889045565a9) + be32(number) + be32(type) +
         be32(static_cast<uint32_t>(data.size())) + std::string(data);
}

/// Feeds a handshake and remembers what it said.
struct Driver {
  explicit Driver(TlsMode tls = TlsMode::kOff) : handshake(directory, tls) {}

  Directory directory;
  Handshake handshake;
  std::string said;

  Handshake::State feed(std::string_view text) {
    nbd::Bytes bytes{reinterpret_cast<const std::byte*>(text.data()), text.size()};
    Handshake::State state = Handshake::State::kNegotiating;
    size_t before = 0;
    do {
      before = bytes.size();
      state = handshake.advance(bytes, said);
    } while (state == Handshake::State::kNegotiating && bytes.size() < before);
    left = bytes.size();
    return state;
  }
  /// The error type of the last option reply.
  [[nodiscard]] uint32_t said_type() const {
    REQUIRE(said.size() >= 20);
    uint32_t type = 0;
    for (size_t i = 12; i < 16; ++i) type = type << 8 | static_cast<uint8_t>(said[i]);
    return type;
  }
  size_t left = 0;
};

}  // namespace blobcache::blockdev
