#include "store/tree/impl/fitting_write.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "base/status.h"
#include "store/page/geometry.h"

namespace blobcache::tree {
namespace {

/// Its steps are called back one by the other.
class FittingWrite : public std::enable_shared_from_this<FittingWrite> {
 public:
  FittingWrite(volume::Volume& volume, const FileWrite& write, volume::Done done)
      : volume_(volume), write_(write), done_(std::move(done)) {}

  void step() {
    const uint64_t at = write_.offset + written_;
    const uint64_t in_page = page::kPageSize - at % page::kPageSize;
    const size_t length = std::min<uint64_t>(in_page, write_.bytes.size() - written_);
    if (length == 0) return done_(absl::OkStatus());
    volume_.write(at, write_.bytes.subspan(written_, length), /*fua=*/false,
                  [self = shared_from_this(), length](absl::Status status) {
                    if (!status.ok()) return self->end(std::move(status));
                    self->written_ += length;
                    self->step();
                  });
  }

 private:
  void end(absl::Status status) {
    status = base::partly_done(std::move(status), written_);
    const uint64_t end = written_ == 0 ? 0 : write_.offset + written_;
    const uint64_t keep = std::max(write_.length_before, end);
    const uint64_t length = volume_.size_bytes();
    if (length <= keep || length > write_.offset + write_.bytes.size()) {
      return done_(std::move(status));
    }
    volume_.set_length(
        keep, [self = shared_from_this(), status = std::move(status)](
                  const absl::Status& /*cut*/) mutable { self->done_(std::move(status)); });
  }

  volume::Volume& volume_;
  const FileWrite write_;
  volume::Done done_;
  size_t written_ = 0;
};

}  // namespace

void write_what_fits(volume::Volume& volume, const FileWrite& write, volume::Done done) {
  std::make_shared<FittingWrite>(volume, write, std::move(done))->step();
}

}  // namespace blobcache::tree
