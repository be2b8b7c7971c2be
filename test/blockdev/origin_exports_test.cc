#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "blockdev/export_filter.h"
#include "blockdev/impl/device.h"
#include "blockdev/impl/tree_exports.h"
#include "store/page/pinned_range.h"
#include "test/store/tree/fake_origin.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::blockdev {
namespace {

/// The exports of a tree with two origins.
struct OriginExports : tree::TreeFixture {
  OriginExports() {
    origins = {hub, far};
    reopen();
    hub->put("dir/file", "content");
    hub->put_image("disk", "0123456789");
    far->put("x", "far away");
    put("named", "files/x");
  }
  ~OriginExports() { close(); }

  TreeExports exports(const std::vector<std::string>& patterns = {"**"}) {
    return {names(), ExportFilter::parse(patterns).value(), ""};
  }

  std::shared_ptr<tree::FakeOrigin> hub = std::make_shared<tree::FakeOrigin>("hub");
  std::shared_ptr<tree::FakeOrigin> far = std::make_shared<tree::FakeOrigin>("far");
};

std::string read_all(Device& device) {
  std::string bytes;
  absl::Notification done;
  device.read(0, device.size_bytes(), [&](absl::StatusOr<DeviceBytes> read) {
    REQUIRE(read.ok());
    for (const iovec& piece : read->range.pieces()) {
      bytes.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
    }
    const void* owned = read->owned.data();
    bytes.append(static_cast<const char*>(owned), read->owned.size());
    done.Notify();
  });
  done.WaitForNotification();
  return bytes;
}

std::vector<std::string> listed(TreeExports exports) {
  std::vector<std::string> names;
  const std::vector<Export> all = exports.list(100).value().exports;
  for (const Export& each : all) {
    if (!each.name.starts_with("blobs/")) names.push_back(each.name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

TEST_CASE_FIXTURE(OriginExports, "exports: an origin's file is read, and cannot be written") {
  const OpenExport opened = exports().open("origins/hub/dir/file").value();
  CHECK(opened.device->size_bytes() == 7);
  CHECK(opened.device->read_only());
  CHECK(read_all(*opened.device) == "content");
  CHECK(absl::IsNotFound(exports().open("origins/hub/dir").status()));
  CHECK(absl::IsNotFound(exports().open("origins/hub/nothing").status()));
  CHECK(absl::IsNotFound(exports().open("origins/nobody/x").status()));
  CHECK(absl::IsNotFound(exports({"files/**"}).open("origins/hub/dir/file").status()));
}

TEST_CASE_FIXTURE(OriginExports, "exports: a symbolic link is none, and says so") {
  hub->put_link("link", "dir/file");
  const absl::Status refused = exports().open("origins/hub/link").status();
  CHECK(absl::IsNotFound(refused));
  CHECK(refused.message().find("symbolic link") != absl::string_view::npos);
  CHECK(absl::IsNotFound(exports().open("origins/hub/link/x").status()));
  CHECK(listed(exports()) ==
        Names{"files/x", "origins/far/x", "origins/hub/dir/file", "origins/hub/disk"});
}

TEST_CASE_FIXTURE(OriginExports, "exports: an origin's image is written through") {
  const OpenExport opened = exports().open("origins/hub/disk").value();
  CHECK_FALSE(opened.device->read_only());
  const std::string_view bytes = "ab";
  absl::Status written = absl::UnknownError("no answer");
  opened.device->write(1, tree::bytes_of(bytes), false,
                       [&](absl::Status status) { written = std::move(status); });
  CHECK(written.ok());
  CHECK(hub->content("disk") == "0ab3456789");
  CHECK(read_all(*exports().open("origins/hub/disk").value().device) == "0ab3456789");
}

TEST_CASE_FIXTURE(OriginExports, "exports: origins are listed, and one that is away is left out") {
  CHECK(listed(exports()) ==
        Names{"files/x", "origins/far/x", "origins/hub/dir/file", "origins/hub/disk"});
  CHECK(listed(exports({"origins/hub/dir/*"})) == Names{"origins/hub/dir/file"});
  far->set_error(absl::UnavailableError("away"));
  CHECK(listed(exports()) == Names{"files/x", "origins/hub/dir/file", "origins/hub/disk"});
  CHECK(absl::IsUnavailable(exports().open("origins/far/x").status()));
  CHECK(exports().list(100).value().left_out == Names{"origins/far: away"});
  far->set_error(absl::UnimplementedError("does not list"));
  CHECK(listed(exports()).size() == 3);
  const std::vector<Export> all = exports().list(100).value().exports;
  for (const Export& each : all) {
    CHECK(each.read_only == (each.name != "origins/hub/disk"));
  }
}

TEST_CASE_FIXTURE(OriginExports, "exports: a directory that is too large to list hides no other") {
  hub->put("many/x", "text");
  std::vector<tree::OriginEntry> entries(tree::kMaxOriginEntries + 1);
  for (size_t i = 0; i < entries.size(); ++i) entries[i].name = std::to_string(i);
  hub->list_as("many", entries);
  CHECK(exports().list(100).value().left_out.empty());
  CHECK(listed(exports()) ==
        Names{"files/x", "origins/far/x", "origins/hub/dir/file", "origins/hub/disk"});
  CHECK(exports().open("origins/hub/many/x").ok());
  far->list_as("", entries);
  CHECK(exports().list(100).value().left_out.size() == 1);
}

TEST_CASE_FIXTURE(OriginExports, "exports: a list does not wait for an origin that hangs") {
  far->hold();
  const ExportList list = exports().list(100).value();
  CHECK(list.left_out == Names{"origins/far: no answer within 3s"});
  CHECK(std::count_if(list.exports.begin(), list.exports.end(),
                      [](const Export& each) { return each.name.starts_with("origins/"); }) == 2);
  far->release();
  CHECK(listed(exports()).size() == 4);
}

}  // namespace
}  // namespace blobcache::blockdev
