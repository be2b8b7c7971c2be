// Files that begin to be written to and settle again, as the catalog has them.

#include "store/tree/impl/file_edit.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <optional>

#include "absl/functional/function_ref.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/name_steps.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/node_lookup.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

constexpr absl::Duration kSecond = absl::Seconds(1);

class WrittenCatalog {
 public:
  Effects effects;  ///< of the last step
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);

  absl::Status run(absl::FunctionRef<absl::Status(CatalogWriter&)> step) {
    return catalog_->write(
        [&](CatalogWriter& writer) {
          effects = Effects();
          return step(writer);
        },
        [] {});
  }
  Catalog::Lease read() { return catalog_->read(); }
  FileRow file(int64_t id) { return read()->find_file(id).value().value(); }
  bool is_there(int64_t id) { return read()->find_file(id).value().has_value(); }
  BlobRow blob(int64_t id) { return read()->find_blob_by_id(id).value().value(); }

  BlobRow add_blob(std::string_view content) {
    BlobRow row;
    row.key = digest_of(content);
    row.incarnation = page::Incarnation::random();
    row.size_bytes = content.size();
    row.disk_bytes = 4096;
    row.created = now;
    row.unnamed_since = now;
    const absl::Status status = run([&](CatalogWriter& writer) -> absl::Status {
      BLOBCACHE_ASSIGN_OR_RETURN(row.id, writer.insert_blob(row));
      return absl::OkStatus();
    });
    REQUIRE_MESSAGE(status.ok(), status.ToString());
    return row;
  }
  FileRow bind(const PathNames& path, const BlobRow& blob) {
    FileRow row;
    const absl::Status status = run([&](CatalogWriter& writer) -> absl::Status {
      BLOBCACHE_ASSIGN_OR_RETURN(row, bind_path(writer, path, blob, Creator{}, now, effects));
      return absl::OkStatus();
    });
    REQUIRE_MESSAGE(status.ok(), status.ToString());
    return row;
  }
  absl::StatusOr<FileRow> try_make(std::string_view name) {
    FileRow row;
    BLOBCACHE_RETURN_IF_ERROR(run([&](CatalogWriter& writer) -> absl::Status {
      const NewName made{kFilesNode, name, 0640, 7, 8};
      BLOBCACHE_ASSIGN_OR_RETURN(row, make_file(writer, made, new_volume(), now, effects));
      return absl::OkStatus();
    }));
    return row;
  }
  FileRow make(std::string_view name) {
    const absl::StatusOr<FileRow> made = try_make(name);
    REQUIRE_MESSAGE(made.ok(), made.status().ToString());
    return *made;
  }
  absl::StatusOr<FileRow> begin(int64_t id, std::optional<int64_t> base) {
    FileRow row;
    BLOBCACHE_RETURN_IF_ERROR(run([&](CatalogWriter& writer) -> absl::Status {
      VolumeRow volume = new_volume();
      volume.base = base;
      BLOBCACHE_ASSIGN_OR_RETURN(row, begin_file(writer, id, volume));
      return absl::OkStatus();
    }));
    return row;
  }
  absl::StatusOr<bool> settle(int64_t id, int64_t volume, const BlobRow& blob) {
    bool settled = false;
    BLOBCACHE_RETURN_IF_ERROR(run([&](CatalogWriter& writer) -> absl::Status {
      BLOBCACHE_ASSIGN_OR_RETURN(settled,
                                 settle_file(writer, id, volume, blob, std::nullopt, now, effects));
      return absl::OkStatus();
    }));
    return settled;
  }
  absl::Status unlink(std::string_view name) {
    return run(
        [&](CatalogWriter& writer) { return unlink_name(writer, kFilesNode, name, now, effects); });
  }
  uint64_t names() { return read()->totals()->names; }
  std::vector<std::string> told_names(int64_t blob) {
    NameCursor after;
    std::vector<std::string> paths;
    const std::vector<DescribedName> names = read()->names_of_blob(blob, after, 100).value();
    for (const DescribedName& name : names) {
      paths.push_back(name.path);
    }
    return paths;
  }

 private:
  [[nodiscard]] VolumeRow new_volume() const {
    VolumeRow row;
    row.incarnation = page::Incarnation::random();
    row.size_bytes = 1 << 20;
    row.created = now;
    return row;
  }

  TemporaryDirectory directory_;
  const std::unique_ptr<Catalog> catalog_ =
      Catalog::open(directory_.path() / "catalog.sqlite", directory_.path() / "objects").value();
};

using Paths = std::vector<std::string>;

TEST_CASE("file edit: a new file is empty, under writing, and a name") {
  WrittenCatalog catalog;
  const FileRow made = catalog.make("f");
  CHECK(catalog.effects.names.size() == 1);
  const FileRow row = catalog.file(made.id);
  CHECK(row.is_under_writing());
  CHECK(row.volume == made.volume);
  CHECK(row.size_bytes == 0);
  CHECK(row.mode == 0640);
  CHECK(row.uid == 7);
  CHECK(row.links == 1);
  const Node node = to_node(row);
  CHECK(node.type == NodeType::kFile);
  CHECK_FALSE(node.settled);
  CHECK_FALSE(node.digest.has_value());
  CHECK(catalog.names() == 1);
  CHECK(base::posix_errno_of(catalog.try_make("f").status()) == EEXIST);
  // It is no volume of volumes/.
  CHECK(catalog.read()->list_volumes(0, 10).value().empty());
  CHECK(catalog.read()
            ->has_volume(catalog.read()->find_volume(*made.volume).value()->incarnation)
            .value());
}

TEST_CASE("file edit: length and time are noted, of files under writing alone") {
  WrittenCatalog catalog;
  const FileRow made = catalog.make("f");
  const FileRow settled = catalog.bind({"files", "g"}, catalog.add_blob("content"));
  catalog.now += kSecond;
  for (const int64_t id : {made.id, settled.id, int64_t{1000}}) {
    CHECK(catalog.run([&](CatalogWriter& writer) { return note_file(writer, id, 77, catalog.now); })
              .ok());
  }
  CHECK(catalog.file(made.id).size_bytes == 77);
  CHECK(catalog.file(made.id).modified == catalog.now);
  CHECK(catalog.file(made.id).changed == catalog.now);
  CHECK(catalog.file(settled.id).size_bytes == 7);
  CHECK(catalog.file(settled.id).modified == settled.modified);
  CHECK_FALSE(catalog.is_there(1000));
}

TEST_CASE("file edit: a file that is written to keeps its node, and its blob is held until then") {
  WrittenCatalog catalog;
  const BlobRow old_blob = catalog.add_blob("old");
  const FileRow file = catalog.bind({"files", "d", "f"}, old_blob);
  CHECK(absl::IsFailedPrecondition(catalog.begin(file.id, std::nullopt).status()));
  CHECK(absl::IsFailedPrecondition(catalog.begin(3, std::nullopt).status()));
  CHECK(base::posix_errno_of(catalog.begin(1000, old_blob.id).status()) == ESTALE);
  const FileRow written = catalog.begin(file.id, old_blob.id).value();
  CHECK(written.is_under_writing());
  CHECK(written.size_bytes == 3);
  CHECK(catalog.file(file.id).base == old_blob.id);
  CHECK(catalog.file(file.id).size_bytes == 3);
  CHECK(catalog.names() == 1);
  CHECK_FALSE(catalog.blob(old_blob.id).unnamed_since.has_value());
  // Until it has settled, its blob tells of it: that would come back.
  CHECK(catalog.told_names(old_blob.id) == Paths{"files/d/f"});
  CHECK(catalog.read()->path_of_blob(old_blob.id).value() == "files/d/f");
  CHECK(absl::IsFailedPrecondition(catalog.begin(file.id, old_blob.id).status()));

  const BlobRow new_blob = catalog.add_blob("newer");
  catalog.now += kSecond;
  CHECK(
      absl::IsFailedPrecondition(catalog.settle(file.id, *written.volume + 1, new_blob).status()));
  CHECK(catalog.settle(file.id, *written.volume, new_blob).value());
  const FileRow row = catalog.file(file.id);
  CHECK_FALSE(row.is_under_writing());
  CHECK(row.blob == new_blob.id);
  CHECK(row.key == new_blob.key);
  CHECK(row.size_bytes == 5);
  CHECK(row.modified == file.modified);
  CHECK_FALSE(catalog.read()->find_volume(*written.volume).value().has_value());
  CHECK(catalog.blob(old_blob.id).unnamed_since == catalog.now);
  CHECK_FALSE(catalog.blob(new_blob.id).unnamed_since.has_value());
  CHECK(catalog.told_names(old_blob.id).empty());
  CHECK(catalog.told_names(new_blob.id) == Paths{"files/d/f"});
  CHECK(catalog.effects.gone_files.empty());
  REQUIRE(catalog.effects.told.size() == 2);
  CHECK(catalog.effects.told[0].kind == DescriptionChange::Kind::kGone);
  CHECK(catalog.effects.told[0].blob == old_blob.id);
  CHECK(catalog.effects.told[1].kind == DescriptionChange::Kind::kBound);
  CHECK(catalog.effects.told[1].name.path == "files/d/f");
  CHECK(catalog.names() == 1);
  CHECK(absl::IsFailedPrecondition(catalog.settle(file.id, *written.volume, new_blob).status()));
}

TEST_CASE("file edit: a file that settles as it was has the same blob, held throughout") {
  WrittenCatalog catalog;
  const BlobRow blob = catalog.add_blob("content");
  const FileRow file = catalog.bind({"files", "f"}, blob);
  const FileRow written = catalog.begin(file.id, blob.id).value();
  CHECK(catalog.settle(file.id, *written.volume, blob).value());
  CHECK_FALSE(catalog.blob(blob.id).unnamed_since.has_value());
  REQUIRE(catalog.effects.told.size() == 2);
  CHECK(catalog.effects.told[1].kind == DescriptionChange::Kind::kBound);
}

TEST_CASE("file edit: all names of a file are told when it settles") {
  WrittenCatalog catalog;
  const FileRow made = catalog.make("f");
  for (const char* name : {"g", "h"}) {
    CHECK(catalog
              .run([&](CatalogWriter& writer) {
                return link_file(writer, static_cast<NodeId>(made.id), kFilesNode, name,
                                 catalog.now, catalog.effects)
                    .status();
              })
              .ok());
    CHECK(catalog.effects.told.empty());
  }
  CHECK(catalog.names() == 3);
  const BlobRow blob = catalog.add_blob("content");
  CHECK(catalog.settle(made.id, *made.volume, blob).value());
  CHECK(catalog.effects.told.size() == 3);
  CHECK(catalog.told_names(blob.id) == Paths{"files/f", "files/g", "files/h"});
  CHECK(catalog.file(made.id).links == 3);
}

TEST_CASE("file edit: with its last name a file under writing goes, and its volume's row") {
  WrittenCatalog catalog;
  const BlobRow blob = catalog.add_blob("content");
  const FileRow file = catalog.bind({"files", "f"}, blob);
  const FileRow written = catalog.begin(file.id, blob.id).value();
  const page::Incarnation volume =
      catalog.read()->find_volume(*written.volume).value()->incarnation;
  SUBCASE("unlinked") { CHECK(catalog.unlink("f").ok()); }
  SUBCASE("replaced by a put") { catalog.bind({"files", "f"}, catalog.add_blob("other")); }
  SUBCASE("replaced by a rename") {
    catalog.make("g");
    const RenameRequest request{kFilesNode, "g", kFilesNode, "f", RenameMode::kReplace};
    CHECK(catalog
              .run([&](CatalogWriter& writer) {
                return rename_name(writer, request, catalog.now, catalog.effects);
              })
              .ok());
  }
  REQUIRE(catalog.effects.gone_files.size() == 1);
  const GoneFile& gone = catalog.effects.gone_files.front();
  CHECK(gone.node == static_cast<NodeId>(file.id));
  REQUIRE(gone.volume.has_value());
  CHECK(gone.volume->incarnation == volume);
  CHECK_FALSE(catalog.is_there(file.id));
  CHECK_FALSE(catalog.read()->has_volume(volume).value());
  CHECK(catalog.blob(blob.id).unnamed_since.has_value());
  CHECK(catalog.told_names(blob.id).empty());
  REQUIRE_FALSE(catalog.effects.told.empty());
  CHECK(catalog.effects.told.front().kind == DescriptionChange::Kind::kGone);
  // It has settled in vain.
  CHECK_FALSE(catalog.settle(file.id, *written.volume, blob).value());
}

TEST_CASE("file edit: a settled file that goes is told of, and one with other names is not") {
  WrittenCatalog catalog;
  const FileRow file = catalog.bind({"files", "f"}, catalog.add_blob("content"));
  CHECK(catalog
            .run([&](CatalogWriter& writer) {
              return link_file(writer, static_cast<NodeId>(file.id), kFilesNode, "g", catalog.now,
                               catalog.effects)
                  .status();
            })
            .ok());
  CHECK(catalog.unlink("f").ok());
  CHECK(catalog.effects.gone_files.empty());
  CHECK(catalog.unlink("g").ok());
  REQUIRE(catalog.effects.gone_files.size() == 1);
  CHECK(catalog.effects.gone_files.front().node == static_cast<NodeId>(file.id));
  CHECK_FALSE(catalog.effects.gone_files.front().volume.has_value());
}

TEST_CASE("file edit: a start finds all files under writing, and no others") {
  WrittenCatalog catalog;
  const BlobRow blob = catalog.add_blob("content");
  std::vector<int64_t> expected;
  for (int i = 0; i < 10; ++i) expected.push_back(catalog.make(std::to_string(i)).id);
  const FileRow file = catalog.bind({"files", "f"}, blob);
  catalog.bind({"files", "g"}, blob);
  CHECK(catalog.begin(file.id, blob.id).ok());
  expected.push_back(file.id);
  std::vector<int64_t> found;
  for (int64_t after = 0;;) {
    const std::vector<FileRow> rows = list_files_under_writing(*catalog.read(), after, 3).value();
    if (rows.empty()) break;
    for (const FileRow& row : rows) found.push_back(row.id);
    after = found.back();
  }
  CHECK(found == expected);
}

}  // namespace
}  // namespace blobcache::tree
