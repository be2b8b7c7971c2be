#include "server/handover.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"
#include "store/page/checksum.h"

namespace blobcache::server {
namespace {

constexpr std::string_view kMagic = "BLOBHAND";

struct FileHeader {
  char magic[8];
  uint32_t version;
  uint32_t checksum;  ///< CRC32C of all that follows
  uint64_t size_bytes;
};

uint32_t checksum_of(std::string_view bytes) {
  const void* data = bytes.data();
  return page::crc32c({static_cast<const std::byte*>(data), bytes.size()});
}

absl::Status write_all(int file, std::string_view bytes, off_t at) {
  while (!bytes.empty()) {
    const ssize_t done = ::pwrite(file, bytes.data(), bytes.size(), at);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return base::errno_error(errno, "writing the state");
    bytes.remove_prefix(static_cast<size_t>(done));
    at += done;
  }
  return absl::OkStatus();
}

absl::Status read_all(int file, char* into, size_t size, off_t at) {
  while (size > 0) {
    const ssize_t done = ::pread(file, into, size, at);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return base::errno_error(errno, "reading the state");
    if (done == 0) return absl::DataLossError("the state that was handed over ends too early");
    into += done;
    size -= static_cast<size_t>(done);
    at += done;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> read_payload(int file) {
  FileHeader header{};
  struct stat info{};
  if (::fstat(file, &info) != 0) return base::errno_error(errno, "the state");
  if (info.st_size < static_cast<off_t>(sizeof(header))) {
    return absl::DataLossError("what was handed over is not the state of a daemon");
  }
  BLOBCACHE_RETURN_IF_ERROR(read_all(file, reinterpret_cast<char*>(&header), sizeof(header), 0));
  if (std::memcmp(header.magic, kMagic.data(), kMagic.size()) != 0) {
    return absl::DataLossError("what was handed over is not the state of a daemon");
  }
  if (header.version != kHandoverVersion) {
    return absl::FailedPreconditionError(
        fmt::format("the state that was handed over has version {}, and this program knows version "
                    "{}",
                    header.version, kHandoverVersion));
  }
  if (header.size_bytes != static_cast<uint64_t>(info.st_size) - sizeof(header)) {
    return absl::DataLossError("the state that was handed over is not whole");
  }
  std::string payload(header.size_bytes, '\0');
  BLOBCACHE_RETURN_IF_ERROR(read_all(file, payload.data(), payload.size(), sizeof(header)));
  if (checksum_of(payload) != header.checksum) {
    return absl::DataLossError("the state that was handed over is damaged");
  }
  return payload;
}

}  // namespace

absl::StatusOr<base::UniqueFd> make_handover_file() {
  base::UniqueFd file(::memfd_create("blobcached-handover", MFD_CLOEXEC));
  if (!file.valid()) return base::errno_error(errno, "a file in memory");
  return file;
}

absl::Status write_handover(int file, const Handover& handover) {
  base::ParcelWriter writer;
  writer.add_number(handover.number);
  writer.add_number(static_cast<uint64_t>(handover.paused_ns));
  writer.add_text(handover.program);
  writer.add_text(handover.former);
  writer.add_number(handover.arguments.size());
  for (const std::string& argument : handover.arguments) writer.add_text(argument);
  writer.add_text(handover.configuration);
  writer.add_number(handover.daemon.descriptors.size());
  for (const base::UniqueFd& descriptor : handover.daemon.descriptors) {
    writer.add_number(static_cast<uint64_t>(descriptor.get()));
  }
  writer.add_text(handover.daemon.bytes);
  const base::Parcel payload = std::move(writer).take();
  FileHeader header{};
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  header.version = kHandoverVersion;
  header.checksum = checksum_of(payload.bytes);
  header.size_bytes = payload.bytes.size();
  BLOBCACHE_RETURN_IF_ERROR(
      write_all(file, {reinterpret_cast<const char*>(&header), sizeof(header)}, 0));
  return write_all(file, payload.bytes, sizeof(header));
}

absl::StatusOr<Handover> read_handover(int file) {
  base::Parcel payload;
  BLOBCACHE_ASSIGN_OR_RETURN(payload.bytes, read_payload(file));
  base::ParcelReader reader(payload);
  Handover handover;
  handover.number = reader.number();
  handover.paused_ns = static_cast<int64_t>(reader.number());
  handover.program = reader.text();
  handover.former = reader.text();
  for (size_t left = reader.count(); left > 0; --left) handover.arguments.push_back(reader.text());
  handover.configuration = reader.text();
  std::vector<int> descriptors;
  for (size_t left = reader.count(); left > 0; --left) {
    descriptors.push_back(static_cast<int>(reader.number()));
  }
  handover.daemon.bytes = reader.text();
  BLOBCACHE_RETURN_IF_ERROR(base::annotate(reader.end(), "the state that was handed over"));
  for (const int descriptor : descriptors) {
    handover.daemon.descriptors.emplace_back(descriptor);
  }
  return handover;
}

}  // namespace blobcache::server
