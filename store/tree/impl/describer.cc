#include "store/tree/impl/describer.h"

#include <spdlog/spdlog.h>

#include <optional>
#include <utility>

#include "base/status.h"

namespace blobcache::tree {

void Describer::describe(const std::vector<int64_t>& blobs) {
  for (const int64_t blob : blobs) {
    const absl::MutexLock lock(&mutex_);
    const absl::Status status = describe_one(blob);
    if (status.ok() || absl::IsNotFound(status)) continue;
    spdlog::warn("a blob's file does not tell its names, should the catalog be lost: {}",
                 base::message(status));
  }
}

void Describer::describe_all(absl::FunctionRef<bool()> stop) {
  constexpr size_t kStep = 128;
  for (int64_t after = 0;;) {
    const absl::StatusOr<std::vector<BlobRow>> rows = catalog_.read()->list_blobs(after, kStep);
    if (!rows.ok()) {
      spdlog::warn("looking at what blobs' files tell: {}", base::message(rows.status()));
      return;
    }
    if (rows->empty()) return;
    for (const BlobRow& row : *rows) {
      if (stop()) return;
      describe({row.id});
    }
    after = rows->back().id;
  }
}

absl::Status Describer::describe_one(int64_t blob) {
  Description description;
  page::Incarnation incarnation;
  {
    Catalog::Lease catalog = catalog_.read();
    BLOBCACHE_RETURN_IF_ERROR(catalog.freeze());
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> row, catalog->find_blob_by_id(blob));
    if (!row) return absl::OkStatus();
    BLOBCACHE_ASSIGN_OR_RETURN(description.names, catalog->names_of_blob(blob, kMaxNames));
    description.key = row->key;
    description.size_bytes = row->size_bytes;
    incarnation = row->incarnation;
  }
  return write(incarnation, std::move(description));
}

/// Some file systems have room for much less than kMaxDescriptionBytes: then fewer names are told.
absl::Status Describer::write(const page::Incarnation& incarnation, Description description) {
  for (;;) {
    const absl::Status status =
        store_.describe(description.key, incarnation, format_description(description));
    const bool too_long = absl::IsResourceExhausted(status) || absl::IsOutOfRange(status);
    if (!too_long || description.names.empty()) return status;
    description.names.resize(description.names.size() / 2);
    description.more_names = true;
  }
}

}  // namespace blobcache::tree
