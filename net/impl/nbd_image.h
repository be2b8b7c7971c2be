#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "net/impl/nbd_session.h"
#include "store/page/object.h"
#include "store/volume/image.h"

namespace blobcache::net {

/// An export of an NBD server as a writable image, written through: a change is answered when the
/// server has answered it.
///
/// Reads come from the page store (`cached`), except for pages that were changed since the export
/// was opened: those are marked before the change is sent, and from then on read from the server,
/// so that nobody sees what the page store has of them, or is just getting. A read that began
/// before a change was answered gives what was there before or after it.
///
/// Thread-safe.
class NbdImage final : public volume::Image, public std::enable_shared_from_this<NbdImage> {
 public:
  NbdImage(std::shared_ptr<NbdSession> session, page::ObjectRef cached);

  [[nodiscard]] uint64_t size_bytes() const override { return session_->info().size_bytes; }
  [[nodiscard]] uint64_t identity() const override { return identity_; }
  [[nodiscard]] std::string about() const override;

  [[nodiscard]] bool try_read(uint64_t offset, absl::Span<std::byte> into) override;
  void read(uint64_t offset, absl::Span<std::byte> into, volume::Done done) override;
  void write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua,
             volume::Done done) override;
  /// It may be, but the server says so of each request alone, and nobody is told in between.
  [[nodiscard]] bool zeroes_fast() const override { return false; }
  void write_zeroes(uint64_t offset, uint64_t length, volume::ZeroFlags flags,
                    volume::Done done) override;
  void trim(uint64_t offset, uint64_t length, bool fua, volume::Done done) override;
  void flush(volume::Done done) override;
  void map(uint64_t offset, uint64_t length, size_t max_runs, volume::MapDone done) override;

 private:
  class Gather;

  [[nodiscard]] absl::Status check(uint64_t offset, uint64_t length) const;

  const std::shared_ptr<NbdSession> session_;
  const page::ObjectRef cached_;
  const uint64_t identity_;
};

}  // namespace blobcache::net
