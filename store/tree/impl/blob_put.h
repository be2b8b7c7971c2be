#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/object_writer.h"
#include "store/page/page_store.h"
#include "store/tree/blob_writer.h"
#include "store/tree/digest.h"
#include "store/tree/impl/append_thread.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/impl/edit_runner.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {

/// A put under way. The content goes through the digest and into the page store, both at the same
/// time once there are some mebibytes of it; commit() then makes it durable, and one catalog
/// transaction makes it a blob and binds its name.
///
/// Content that is here already takes the place of the copy that is here, whose files go. That one
/// may be damaged or gone without anybody knowing yet, and to find out costs as much as writing it
/// anew: what is acknowledged is what was just written. Readers who have the old copy open keep it.
///
/// As BlobWriter; must not outlive what it is given.
class BlobPut final : public BlobWriter {
 public:
  /// `path` (checked; "" for none) is bound with `creator` as owner.
  BlobPut(EditRunner& edits, AppendThreads& threads, std::function<absl::Time()> clock,
          std::unique_ptr<page::ObjectWriter> writer, std::string path = "",
          const Creator& creator = {});

  /// Another step of the transaction that makes the blob, which is given its row, and whether it
  /// was here already. As WriteQueue::Apply; when it fails there is no blob. Before commit().
  using Step = std::function<absl::Status(CatalogWriter&, const BlobRow&, bool existed, Effects&)>;
  void also(Step step) { step_ = std::move(step); }

  [[nodiscard]] absl::Status append(absl::Span<const std::byte> bytes) override;
  [[nodiscard]] absl::StatusOr<CommittedBlob> commit(const page::ObjectKey* expected) override;
  /// The same in the background: the blob's files are durable when it returns OK, and the
  /// transaction with the next that is (Durability::kLater). Nobody's commit waits for this one's
  /// syncs.
  [[nodiscard]] absl::StatusOr<CommittedBlob> commit_later(page::PageStore& store);

 private:
  /// Hashes and writes, on two threads when the put is large enough.
  [[nodiscard]] absl::Status take(absl::Span<const std::byte> bytes);
  /// With `store` as commit_later().
  [[nodiscard]] absl::StatusOr<CommittedBlob> finish(const page::ObjectKey* expected,
                                                     page::PageStore* store);
  [[nodiscard]] absl::Status seal_and_record(const page::ObjectKey& key, page::PageStore* store,
                                             CommittedBlob& result);
  [[nodiscard]] absl::Status record(CatalogWriter& catalog, const page::ObjectKey& key,
                                    const page::SealedObject& sealed, absl::Time now,
                                    Effects& effects, CommittedBlob& result);
  [[nodiscard]] page::ObjectDescription describe(const page::ObjectKey& key, absl::Time now) const;
  [[nodiscard]] absl::StatusOr<BlobRow> insert(CatalogWriter& catalog, const page::ObjectKey& key,
                                               const page::SealedObject& sealed, absl::Time now,
                                               Effects& effects);

  EditRunner& edits_;
  AppendThreads& threads_;
  const std::function<absl::Time()> clock_;
  std::unique_ptr<page::ObjectWriter> writer_;  // none once the put is over
  const std::string path_;
  const Creator creator_;
  Step step_;
  Sha256 hash_;
  absl::Status failed_;  // the first error of append()
  bool asked_for_thread_ = false;
  std::unique_ptr<AppendThread> thread_;  // none for small puts, and when there are enough
};

}  // namespace blobcache::tree
