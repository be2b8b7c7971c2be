#include "store/tree/impl/describer.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/container/btree_map.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace blobcache::tree {
namespace {

/// So many names are read at a time.
constexpr size_t kNamesStep = 512;

}  // namespace

struct Describer::Told {
  BlobRow blob;
  std::optional<std::string> text;  ///< none when the names do not fit
  std::string elsewhere;            ///< what the attribute says then

  /// nullopt when the blob is gone.
  static absl::StatusOr<std::optional<Told>> read(Catalog& catalog_file, int64_t blob) {
    Catalog::Lease catalog = catalog_file.read();
    BLOBCACHE_RETURN_IF_ERROR(catalog.freeze());
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> row, catalog->find_blob_by_id(blob));
    if (!row) return std::optional<Told>();
    Description description{
        .key = row->key, .size_bytes = row->size_bytes, .pinned = row->pinned, .names = {}};
    NameCursor from;
    BLOBCACHE_ASSIGN_OR_RETURN(description.names, catalog->names_of_blob(blob, from, kMaxNames));
    return std::optional<Told>(
        Told{*row, format_description(description), format_names_elsewhere(description)});
  }
};

Describer::Describer(Catalog& catalog, page::PageStore& store, std::filesystem::path mark)
    : catalog_(catalog), store_(store), mark_(std::move(mark)) {
  const absl::MutexLock lock(&mutex_);
  // Of a new store everything will be told.
  const absl::StatusOr<int64_t> newest = catalog_.read()->newest_blob();
  looked_at_all_ = ::access(mark_.c_str(), F_OK) == 0 || (newest.ok() && *newest == 0);
  make_mark();
}

void Describer::expect(std::vector<DescriptionChange> changes, const std::vector<int64_t>& moved) {
  if (changes.empty() && moved.empty()) return;
  const absl::MutexLock lock(&expected_mutex_);
  expected_moved_.insert(expected_moved_.end(), moved.begin(), moved.end());
  std::move(changes.begin(), changes.end(), std::back_inserter(expected_));
}

void Describer::tell() {
  const absl::MutexLock lock(&mutex_);
  // Of one blob in the order they came.
  absl::btree_map<int64_t, std::vector<DescriptionChange>> by_blob;
  std::vector<int64_t> moved;
  {
    const absl::MutexLock expected_lock(&expected_mutex_);
    for (DescriptionChange& change : std::exchange(expected_, {})) {
      by_blob[change.blob].push_back(std::move(change));
    }
    moved = std::exchange(expected_moved_, {});
  }
  if (!moved.empty()) take_moved(moved);
  for (const auto& [blob, changes] : by_blob) {
    note(blob, tell_changes(changes));
    if (!moved_.empty()) again_.insert(blob);
  }
  bound_moved();
}

absl::Status Describer::tell_changes(Changes changes) {
  BLOBCACHE_ASSIGN_OR_RETURN(const bool added, add_to_file(changes));
  return added ? absl::OkStatus() : describe(changes.front().blob);
}

absl::StatusOr<bool> Describer::add_to_file(Changes changes) {
  const DescriptionChange& last = changes.back();
  Description head{
      .key = last.key, .size_bytes = last.size_bytes, .pinned = last.pinned, .names = {}};
  const std::string elsewhere = format_names_elsewhere(head);
  page::Descriptions& files = store_.descriptions();
  bool carried = true;
  std::vector<std::string> records;
  for (const DescriptionChange& change : changes) {
    switch (change.kind) {
      case DescriptionChange::Kind::kBound:
        records.push_back(format_bound(change.name));
        break;
      case DescriptionChange::Kind::kGone:
        records.push_back(format_gone(change.name.path));
        break;
      case DescriptionChange::Kind::kPinned:
        records.push_back(format_pinned(change.pinned));
        break;
      case DescriptionChange::Kind::kOther:
        carried = false;
        break;
      case DescriptionChange::Kind::kMoved:
        BLOBCACHE_ASSIGN_OR_RETURN(
            const bool had_file,
            files.hand_over(change.key, change.moved_from, change.incarnation, elsewhere));
        carried = carried && had_file;
        break;
    }
  }
  if (!carried || untold_.contains(last.blob)) return false;
  // An attribute that tells names was written by a version that knows no names files, or is enough.
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<std::string> attribute,
                             files.attribute(last.key, last.incarnation));
  head.pinned = !head.pinned;
  const bool told_otherwise = attribute && *attribute == format_names_elsewhere(head);
  if (attribute && *attribute != elsewhere && !told_otherwise) return false;
  BLOBCACHE_ASSIGN_OR_RETURN(const bool added, files.append(last.key, last.incarnation, records));
  if (!added || !told_otherwise) return added;
  BLOBCACHE_RETURN_IF_ERROR(files.replace_attribute(last.key, last.incarnation, elsewhere));
  return true;
}

absl::Status Describer::describe(int64_t blob) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<Told> told, Told::read(catalog_, blob));
  if (!told) return absl::OkStatus();
  const page::ObjectKey& key = told->blob.key;
  const page::Incarnation& incarnation = told->blob.incarnation;
  page::Descriptions& files = store_.descriptions();
  if (told->text) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool stored,
                               files.set_attribute(key, incarnation, *told->text));
    if (stored) return files.remove_file(key, incarnation);
  }
  BLOBCACHE_RETURN_IF_ERROR(write_file(told->blob));
  return files.replace_attribute(key, incarnation, told->elsewhere);
}

absl::Status Describer::mend(int64_t blob) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<Told> told, Told::read(catalog_, blob));
  if (!told) return absl::OkStatus();
  page::Descriptions& files = store_.descriptions();
  if (told->text && files.has_attributes()) return describe(blob);
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<std::string> attribute,
                             files.attribute(told->blob.key, told->blob.incarnation));
  if (!attribute || *attribute == told->elsewhere) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool right, file_is_right(told->blob));
    if (right) return absl::OkStatus();
  }
  return describe(blob);
}

/// In steps: what changes meanwhile is told after this, by who changed it.
absl::Status Describer::for_each_name(const BlobRow& blob,
                                      absl::FunctionRef<absl::Status(const DescribedName&)> visit) {
  for (NameCursor after;;) {
    const NameCursor before = after;
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<DescribedName> names,
                               catalog_.read()->names_of_blob(blob.id, after, kNamesStep));
    for (const DescribedName& name : names) BLOBCACHE_RETURN_IF_ERROR(visit(name));
    if (after == before) return absl::OkStatus();
  }
}

absl::Status Describer::write_file(const BlobRow& blob) {
  return store_.descriptions().write_file(
      blob.key, blob.incarnation, [&](page::Descriptions::AddRecord add) {
        if (blob.pinned) BLOBCACHE_RETURN_IF_ERROR(add(format_pinned(true)));
        return for_each_name(blob,
                             [&](const DescribedName& name) { return add(format_bound(name)); });
      });
}

absl::StatusOr<bool> Describer::file_is_right(const BlobRow& blob) {
  NameReplay replay;
  const absl::Status read = store_.descriptions().read_file(
      blob.key, blob.incarnation, [&](std::string_view record) { replay.take(record); });
  if (absl::IsNotFound(read) || absl::IsDataLoss(read) || !replay.whole()) return false;
  BLOBCACHE_RETURN_IF_ERROR(read);
  size_t names = 0;
  bool same = replay.pinned() == blob.pinned;
  BLOBCACHE_RETURN_IF_ERROR(for_each_name(blob, [&](const DescribedName& name) {
    const auto told = replay.names().find(name.path);
    same = same && told != replay.names().end() && told->second == name;
    ++names;
    return absl::OkStatus();
  }));
  return same && names == replay.names().size();
}

void Describer::note(int64_t blob, const absl::Status& status) {
  if (status.ok() || absl::IsNotFound(status)) {
    untold_.erase(blob);
    return;
  }
  spdlog::warn(
      "a blob's files do not tell all of its names, or its pin, should the catalog be lost; it "
      "will be tried again: {}",
      base::message(status));
  untold_.insert(blob);
  remove_mark();
}

void Describer::remove_mark() {
  if (::unlink(mark_.c_str()) != 0 && errno != ENOENT) {
    spdlog::warn("what is not told by the next start will not be told then: {}",
                 base::message(base::errno_error(errno, mark_.string())));
  }
}

void Describer::look_at(int64_t blob) {
  const absl::MutexLock lock(&mutex_);
  note(blob, mend(blob));
}

void Describer::tell_all(absl::FunctionRef<bool()> stop) {
  constexpr size_t kStep = 128;
  for (int64_t after = 0;;) {
    const absl::StatusOr<std::vector<BlobRow>> rows = catalog_.read()->list_blobs(after, kStep);
    if (!rows.ok()) {
      spdlog::warn("looking at what blobs' files tell: {}", base::message(rows.status()));
      return;
    }
    if (rows->empty()) break;
    for (const BlobRow& row : *rows) {
      if (stop()) return;
      look_at(row.id);
    }
    after = rows->back().id;
  }
  const absl::MutexLock lock(&mutex_);
  looked_at_all_ = true;
  make_mark();
}

void Describer::take_moved(const std::vector<int64_t>& moved) {
  remove_mark();
  for (const int64_t directory : moved) {
    // The first one may be half done.
    const auto begin = moved_.empty() ? moved_.end() : moved_.begin() + 1;
    if (std::find(begin, moved_.end(), directory) == moved_.end()) moved_.push_back(directory);
  }
}

void Describer::bound_moved() {
  if (moved_.size() <= kMostMoved && again_.size() <= kMostAgain) return;
  looked_at_all_ = false;
  moved_.clear();
  again_.clear();
}

bool Describer::any_moved() {
  const absl::MutexLock lock(&mutex_);
  return !moved_.empty() || !again_.empty();
}

void Describer::tell_moved(absl::FunctionRef<bool()> stop) {
  for (;;) {
    int64_t directory = 0;
    {
      const absl::MutexLock lock(&mutex_);
      if (moved_.empty()) break;
      directory = moved_.front();
    }
    if (!look_beneath(directory, stop)) return;
    const absl::MutexLock lock(&mutex_);
    if (!moved_.empty() && moved_.front() == directory) moved_.pop_front();
  }
  absl::btree_set<int64_t> again;
  {
    const absl::MutexLock lock(&mutex_);
    again = again_;
  }
  if (!look_at_each(again, stop)) return;
  const absl::MutexLock lock(&mutex_);
  if (!moved_.empty()) return;
  again_.clear();
  make_mark();
}

bool Describer::look_beneath(int64_t directory, absl::FunctionRef<bool()> stop) {
  absl::btree_set<int64_t> blobs;
  std::vector<int64_t> to_enter{directory};
  while (!to_enter.empty()) {
    const int64_t parent = to_enter.back();
    to_enter.pop_back();
    for (int64_t after = 0;;) {
      if (stop()) return false;
      const absl::StatusOr<std::vector<EntryRow>> entries =
          catalog_.read()->list_entries(parent, after, kNamesStep);
      if (!entries.ok()) {
        spdlog::warn("looking at names in a directory that was moved: {}",
                     base::message(entries.status()));
        return false;
      }
      if (entries->empty()) break;
      after = entries->back().id;
      for (const EntryRow& entry : *entries) {
        if (entry.file.kind == FileKind::kDirectory) to_enter.push_back(entry.file.id);
        if (const std::optional<int64_t> blob = entry.file.described_blob()) blobs.insert(*blob);
      }
      if (blobs.size() >= kMostAgain && !look_at_each(std::exchange(blobs, {}), stop)) return false;
    }
  }
  return look_at_each(blobs, stop);
}

bool Describer::look_at_each(const absl::btree_set<int64_t>& blobs,
                             absl::FunctionRef<bool()> stop) {
  for (const int64_t blob : blobs) {
    if (stop()) return false;
    look_at(blob);
  }
  return true;
}

bool Describer::has_looked_at_all() {
  const absl::MutexLock lock(&mutex_);
  return looked_at_all_;
}

void Describer::try_again() {
  const absl::MutexLock lock(&mutex_);
  if (untold_.empty()) return;
  for (const int64_t blob : absl::btree_set<int64_t>(untold_)) {
    const absl::Status status = describe(blob);
    if (!status.ok() && !absl::IsNotFound(status)) return;
    untold_.erase(blob);
  }
  spdlog::info("what could not be told of blobs is told now");
  make_mark();
}

/// Not synced: without it a start does too much, and after a power cut it does so anyway.
void Describer::make_mark() {
  if (!looked_at_all_ || !untold_.empty() || !moved_.empty() || !again_.empty()) return;
  const base::UniqueFd fd(::open(mark_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd.valid()) return;
  spdlog::warn("the next start looks at all blobs' files again: {}",
               base::message(base::errno_error(errno, mark_.string())));
}

}  // namespace blobcache::tree
