// Attention in a cache that many sequences share, put into ggml's CPU backend by masked_cells.cmake.
//
// ggml looks at every cell of the cache for every row of a batch, and leaves out those that the mask hides.
// In one cache for 32 conversations a row sees 3 cells in 100: looking at the others was a tenth of a step,
// and a step that computes a prompt besides was slower still, because tiles of 64 rows compute what any of
// the rows sees for all of them. What is computed is the same as without this file, to the last bit where
// tiles do not change.

#pragma once

#include <cstdint>
#include <cstring>

namespace hearth {

constexpr uint16_t HIDDEN = 0xFC00;  // minus infinity, as an IEEE 754 half

// A cell computed for one row costs about as much as this many in a full tile.
constexpr int64_t ROW_COST = 8;

// The first cell in [cell, end) that the row sees; `end` where there is none.
inline int64_t next_visible(const uint16_t * row, int64_t cell, int64_t end) {
    constexpr uint64_t hidden4 = 0xFC00FC00FC00FC00;
    constexpr int words = 8;
    while (cell + 4*words <= end) {
        uint64_t at[words];
        std::memcpy(at, row + cell, sizeof(at));
        uint64_t seen = 0;
        for (int i = 0; i < words; ++i) {
            seen |= at[i] ^ hidden4;
        }
        if (seen != 0) {
            break;
        }
        cell += 4*words;
    }
    while (cell < end && row[cell] == HIDDEN) {
        ++cell;
    }
    return cell;
}

// The mask of consecutive rows of a batch; `stride` is in bytes.
struct mask_rows {
    const char * first;
    size_t       stride;
    int          count;

    const uint16_t * row(int i) const {
        return (const uint16_t *) (first + i*stride);
    }

    bool sees_any(int64_t cell, int64_t end) const {
        for (int i = 0; i < count; ++i) {
            if (next_visible(row(i), cell, end) != end) {
                return true;
            }
        }
        return false;
    }

    // Whether the rows see so little of the tiles that they are better computed each for itself.
    bool is_sparse(int64_t cells, int64_t tile_rows, int64_t tile_cells) const {
        int64_t visible = 0;
        int64_t in_tiles = 0;
        for (int64_t cell = 0; cell < cells; cell += tile_cells) {
            const int64_t end = cell + tile_cells < cells ? cell + tile_cells : cells;
            if (!sees_any(cell, end)) {
                continue;
            }
            in_tiles += tile_rows*tile_cells;
            for (int i = 0; i < count; ++i) {
                const uint16_t * mask = row(i);
                int seen = 0;
                for (int64_t at = cell; at < end; ++at) {
                    seen += mask[at] != HIDDEN;
                }
                visible += seen;
            }
        }
        return visible*ROW_COST < in_tiles;
    }
};

}  // namespace hearth
