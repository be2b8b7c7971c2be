#include "server/ctl/table.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <utility>

#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

constexpr size_t kColumnGap = 2;

void append_cell(std::string& out, const std::string& cell, size_t width, Table::Align align,
                 bool last) {
  const size_t padding = width - display_width(cell);
  if (align == Table::Align::kRight) out.append(padding, ' ');
  out += cell;
  if (last) return;
  if (align == Table::Align::kLeft) out.append(padding, ' ');
  out.append(kColumnGap, ' ');
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::add_row(std::vector<std::string> cells) {
  assert(cells.size() == columns_.size());
  for (std::string& cell : cells) cell = escape(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::render() const {
  std::vector<size_t> widths;
  bool titled = false;
  for (const Column& column : columns_) {
    widths.push_back(display_width(column.title));
    titled = titled || !column.title.empty();
  }
  for (const std::vector<std::string>& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  }
  std::string out;
  const auto append_row = [&](const auto& cell_of) {
    for (size_t i = 0; i < columns_.size(); ++i) {
      append_cell(out, cell_of(i), widths[i], columns_[i].align, i + 1 == columns_.size());
    }
    out += '\n';
  };
  if (titled) append_row([&](size_t i) -> const std::string& { return columns_[i].title; });
  for (const std::vector<std::string>& row : rows_) {
    append_row([&](size_t i) -> const std::string& { return row[i]; });
  }
  return out;
}

Table property_table() { return Table({{"", Table::Align::kLeft}, {"", Table::Align::kLeft}}); }

}  // namespace blobcache::ctl
