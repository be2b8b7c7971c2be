#pragma once

namespace blobcache::tree {

/// Takes back what version 5 brought; the rows stay.
inline constexpr const char* kBackTo4 = R"sql(
DROP TRIGGER dentry_inserted;
DROP TRIGGER dentry_deleted;
DROP TRIGGER dentry_pointed;
ALTER TABLE file DROP COLUMN target;
ALTER TABLE file DROP COLUMN length_bytes;
CREATE TRIGGER dentry_inserted AFTER INSERT ON dentry
WHEN (SELECT blob IS NOT NULL FROM file WHERE id = new.file) BEGIN
  UPDATE totals SET names = names + 1;
END;
CREATE TRIGGER dentry_deleted AFTER DELETE ON dentry
WHEN (SELECT blob IS NOT NULL FROM file WHERE id = old.file) BEGIN
  UPDATE totals SET names = names - 1;
END;
PRAGMA user_version = 4;
)sql";

}  // namespace blobcache::tree
