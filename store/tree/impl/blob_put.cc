#include "store/tree/impl/blob_put.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "base/status.h"
#include "store/tree/impl/description.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

/// From here on a put gets a thread that writes while it hashes. Smaller ones are over before a
/// thread would have paid for itself.
constexpr uint64_t kLargePut = uint64_t{4} << 20;

/// Pieces that are smaller than this take less time than another thread takes to wake up.
constexpr size_t kLargePiece = size_t{128} << 10;

/// What was sealed is ours to keep.
void take_copy(const page::SealedObject& sealed, BlobRow& blob) {
  blob.incarnation = sealed.incarnation;
  blob.size_bytes = sealed.size_bytes;
  blob.disk_bytes = sealed.disk_bytes;
  blob.inline_map = sealed.inline_map;
  blob.retention = page::Retention::kKept;
}

}  // namespace

BlobPut::BlobPut(EditRunner& edits, AppendThreads& threads, std::function<absl::Time()> clock,
                 std::unique_ptr<page::ObjectWriter> writer, std::string path,
                 const Creator& creator)
    : edits_(edits),
      threads_(threads),
      clock_(std::move(clock)),
      writer_(std::move(writer)),
      path_(std::move(path)),
      creator_(creator) {}

absl::Status BlobPut::append(absl::Span<const std::byte> bytes) {
  if (writer_ == nullptr) return absl::FailedPreconditionError("the put is over");
  if (!failed_.ok()) return failed_;
  failed_ = take(bytes);
  return failed_;
}

absl::Status BlobPut::take(absl::Span<const std::byte> bytes) {
  if (!asked_for_thread_ && writer_->size_bytes() + bytes.size() > kLargePut) {
    asked_for_thread_ = true;
    thread_ = threads_.try_start();
  }
  if (thread_ == nullptr || bytes.size() < kLargePiece) {
    hash_.update(bytes);
    return writer_->append(bytes);
  }
  absl::Status written;
  thread_->both([&] { written = writer_->append(bytes); }, [&] { hash_.update(bytes); });
  return written;
}

absl::StatusOr<CommittedBlob> BlobPut::commit(const page::ObjectKey* expected) {
  return finish(expected, nullptr);
}

absl::StatusOr<CommittedBlob> BlobPut::commit_later(page::PageStore& store) {
  return finish(nullptr, &store);
}

absl::StatusOr<CommittedBlob> BlobPut::finish(const page::ObjectKey* expected,
                                              page::PageStore* store) {
  if (writer_ == nullptr) return absl::FailedPreconditionError("the put is over");
  BLOBCACHE_RETURN_IF_ERROR(failed_);
  failed_ = absl::FailedPreconditionError("the put is over");
  thread_ = nullptr;
  CommittedBlob result;
  result.key = hash_.finish();
  result.size_bytes = writer_->size_bytes();
  absl::Status status;
  if (expected != nullptr && *expected != result.key) {
    status = absl::DataLossError(fmt::format("the content has the digest {}, not {}",
                                             format_digest(result.key), format_digest(*expected)));
  } else {
    status = seal_and_record(result.key, store, result);
  }
  // Unless it was kept, the writer takes its files along.
  writer_ = nullptr;
  if (!status.ok()) return status;
  return result;
}

absl::Status BlobPut::seal_and_record(const page::ObjectKey& key, page::PageStore* store,
                                      CommittedBlob& result) {
  const absl::Time now = clock_();
  BLOBCACHE_ASSIGN_OR_RETURN(const page::SealedObject sealed,
                             writer_->seal(key, describe(key, now)));
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) {
    return record(catalog, key, sealed, now, effects, result);
  };
  const auto committed = [this] { writer_->keep(); };
  if (store == nullptr) return edits_.run(edit, committed, writer_.get()).status();
  page::ObjectWriter* const sealed_writer = writer_.get();
  BLOBCACHE_RETURN_IF_ERROR(store->sync({&sealed_writer, 1}));
  return edits_.run_later(edit, committed).status();
}

/// Right for a new blob. One that is here already has other names, or a pin, too; they are told
/// once the commit has told so.
page::ObjectDescription BlobPut::describe(const page::ObjectKey& key, absl::Time now) const {
  Description description;
  description.key = key;
  description.size_bytes = writer_->size_bytes();
  if (!path_.empty()) {
    const bool slash = path_.front() == '/';
    description.names.push_back({.path = path_.substr(slash ? 1 : 0),
                                 .mode = kFileMode,
                                 .uid = creator_.uid,
                                 .gid = creator_.gid,
                                 .modified = now});
  }
  page::ObjectDescription told;
  for (const DescribedName& name : description.names) told.records.push_back(format_bound(name));
  std::optional<std::string> text = format_description(description);
  told.complete = text.has_value();
  told.text = text ? *std::move(text) : format_names_elsewhere(description);
  return told;
}

/// Makes the blob, or gives it the new copy, and binds the name.
absl::Status BlobPut::record(CatalogWriter& catalog, const page::ObjectKey& key,
                             const page::SealedObject& sealed, absl::Time now, Effects& effects,
                             CommittedBlob& result) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<BlobRow> blob, catalog.find_blob(key));
  result.existed = blob.has_value();
  if (blob) {
    effects.removed.push_back(*blob);
    const page::Incarnation former = blob->incarnation;
    take_copy(sealed, *blob);
    effects.told.push_back(describe_change(DescriptionChange::Kind::kMoved, *blob));
    effects.told.back().moved_from = former;
    BLOBCACHE_RETURN_IF_ERROR(catalog.replace_copy(*blob));
  } else {
    BLOBCACHE_ASSIGN_OR_RETURN(blob, insert(catalog, key, sealed, now, effects));
  }
  if (path_.empty()) {
    BLOBCACHE_RETURN_IF_ERROR(keep_unnamed(catalog, *blob, now, effects));
    return step_ ? step_(catalog, *blob, result.existed, effects) : absl::OkStatus();
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames path, split_path(path_));
  BLOBCACHE_RETURN_IF_ERROR(bind_path(catalog, path, *blob, creator_, now, effects).status());
  // A new blob was described with its name.
  if (!result.existed) {
    std::erase_if(effects.told, [&](const auto& change) { return change.blob == blob->id; });
  }
  return absl::OkStatus();
}

absl::StatusOr<BlobRow> BlobPut::insert(CatalogWriter& catalog, const page::ObjectKey& key,
                                        const page::SealedObject& sealed, absl::Time now,
                                        Effects& effects) {
  BlobRow blob;
  blob.key = key;
  blob.created = now;
  blob.unnamed_since = now;
  take_copy(sealed, blob);
  BLOBCACHE_ASSIGN_OR_RETURN(blob.id, catalog.insert_blob(blob));
  effects.names.push_back({kBlobsNode, key.hex()});
  return blob;
}

}  // namespace blobcache::tree
