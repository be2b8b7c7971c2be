#include "store/tree/impl/blob_put.h"

#include <fmt/format.h>

#include <utility>

#include "base/status.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

/// ext4 gives all extended attributes of a file one block, 4 KiB, unless it has large ones.
constexpr size_t kMaxDescriptionBytes = 2048;

/// Bytes that would end a line or not print, and the escape itself, become %HH.
std::string percent_encode(std::string_view path) {
  std::string text;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x21 || byte > 0x7e || c == '%') {
      text += fmt::format("%{:02X}", byte);
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace

std::string describe_blob(const page::ObjectKey& key, uint64_t size_bytes, std::string_view path) {
  std::string text =
      fmt::format("blobcache 1\ndigest {}\nsize {}\n", format_digest(key), size_bytes);
  if (path.empty()) return text;
  const std::string name = fmt::format("name {}\n", percent_encode(path));
  if (text.size() + name.size() <= kMaxDescriptionBytes) text += name;
  return text;
}

BlobPut::BlobPut(Catalog& catalog, EditRunner& edits, std::function<absl::Time()> clock,
                 std::unique_ptr<page::ObjectWriter> writer, std::string path,
                 const Creator& creator)
    : catalog_(catalog),
      edits_(edits),
      clock_(std::move(clock)),
      writer_(std::move(writer)),
      path_(std::move(path)),
      creator_(creator) {}

absl::Status BlobPut::append(absl::Span<const std::byte> bytes) {
  if (writer_ == nullptr) return absl::FailedPreconditionError("the put is over");
  if (!failed_.ok()) return failed_;
  hash_.update(bytes);
  failed_ = writer_->append(bytes);
  return failed_;
}

absl::StatusOr<CommittedBlob> BlobPut::commit(const page::ObjectKey* expected) {
  if (writer_ == nullptr) return absl::FailedPreconditionError("the put is over");
  BLOBCACHE_RETURN_IF_ERROR(failed_);
  failed_ = absl::FailedPreconditionError("the put is over");
  CommittedBlob result;
  result.key = hash_.finish();
  result.size_bytes = writer_->size_bytes();
  absl::Status status;
  if (expected != nullptr && *expected != result.key) {
    status = absl::DataLossError(fmt::format("the content has the digest {}, not {}",
                                             format_digest(result.key), format_digest(*expected)));
  } else {
    status = seal_and_record(result.key, result);
  }
  // Unless it was kept, the writer takes its files along.
  writer_ = nullptr;
  if (!status.ok()) return status;
  return result;
}

absl::Status BlobPut::seal_and_record(const page::ObjectKey& key, CommittedBlob& result) {
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) {
    return record(catalog, key, effects, result);
  };
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> here, catalog_.read()->find_blob(key));
  if (here) {
    BLOBCACHE_RETURN_IF_ERROR(edits_.run(edit).status());
    // Unless it was removed since the look-up.
    if (result.existed) return absl::OkStatus();
  }
  BLOBCACHE_ASSIGN_OR_RETURN(sealed_,
                             writer_->seal(key, describe_blob(key, writer_->size_bytes(), path_)));
  const auto keep_files = [&] {
    if (!result.existed) writer_->keep();
  };
  return edits_.run(edit, keep_files).status();
}

/// Finds or makes the blob and binds the name. Changes nothing when the blob is not here and its
/// files are not sealed: result.existed is then false.
absl::Status BlobPut::record(CatalogWriter& catalog, const page::ObjectKey& key, Effects& effects,
                             CommittedBlob& result) {
  const absl::Time now = clock_();
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<BlobRow> blob, catalog.find_blob(key));
  result.existed = blob.has_value();
  if (!blob) {
    if (!sealed_) return absl::OkStatus();
    BLOBCACHE_ASSIGN_OR_RETURN(blob, insert(catalog, key, now, effects));
  }
  if (path_.empty()) return keep_unnamed(catalog, *blob, now, effects);
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames path, split_path(path_));
  return bind_path(catalog, path, *blob, creator_, now, effects).status();
}

absl::StatusOr<BlobRow> BlobPut::insert(CatalogWriter& catalog, const page::ObjectKey& key,
                                        absl::Time now, Effects& effects) {
  BlobRow blob;
  blob.key = key;
  blob.incarnation = sealed_->incarnation;
  blob.size_bytes = sealed_->size_bytes;
  blob.disk_bytes = sealed_->disk_bytes;
  blob.inline_map = sealed_->inline_map;
  blob.created = now;
  blob.unnamed_since = now;
  blob.retention = page::Retention::kKept;
  BLOBCACHE_ASSIGN_OR_RETURN(blob.id, catalog.insert_blob(blob));
  effects.names.push_back({kBlobsNode, key.hex()});
  return blob;
}

}  // namespace blobcache::tree
