#include "blockdev/impl/volume_device.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "store/volume/image.h"

namespace blobcache::blockdev {
namespace {

page::Place place_of(volume::Run::Kind kind) {
  return kind == volume::Run::Kind::kZero ? page::Place::kZero : page::Place::kDisk;
}

}  // namespace

page::PendingRead VolumeDevice::read(uint64_t offset, uint64_t length, ReadDone done) {
  ByteBuffer bytes = buffers_->take(length);
  const absl::Span<std::byte> into = bytes.span();  // which stays where it is when the buffer moves
  volume_->read(offset, into,
                [bytes = std::move(bytes), done = std::move(done)](absl::Status status) mutable {
                  if (!status.ok()) return done(std::move(status));
                  DeviceBytes out;
                  out.owned = std::move(bytes);
                  done(std::move(out));
                });
  return {};
}

page::PendingRead VolumeDevice::map(uint64_t offset, uint64_t length, size_t max_runs,
                                    MapDone done) {
  volume_->map(offset, length, max_runs,
               [done = std::move(done)](absl::StatusOr<std::vector<volume::Run>> runs) mutable {
                 if (!runs.ok()) return done(std::move(runs).status());
                 std::vector<page::MapRun> out;
                 out.reserve(runs->size());
                 for (const volume::Run& run : *runs) {
                   out.push_back({run.length_bytes, place_of(run.kind)});
                 }
                 done(std::move(out));
               });
  return {};
}

void VolumeDevice::write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua, Done done) {
  volume_->write(offset, bytes, fua, std::move(done));
}

void VolumeDevice::write_zeroes(uint64_t offset, uint64_t length, ZeroHow how, Done done) {
  if (how.fast && how.no_hole) {
    return done(absl::UnimplementedError("to take the room is as slow as to write it"));
  }
  volume_->write_zeroes(offset, length, {.fua = how.fua, .no_hole = how.no_hole}, std::move(done));
}

void VolumeDevice::trim(uint64_t offset, uint64_t length, bool fua, Done done) {
  volume_->trim(offset, length, fua, std::move(done));
}

void VolumeDevice::flush(Done done) { volume_->flush(std::move(done)); }

}  // namespace blobcache::blockdev
