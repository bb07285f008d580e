# Puts the calls of masked_cells.h into the attention of ggml's CPU backend, before it is compiled.
#
# A release of llama.cpp whose attention reads otherwise ends the build here: look at it, change the places
# below, and run tests/llm/test_company.py and the benchmark of 32 streams.

set(_ggml_cpu "${CMAKE_SOURCE_DIR}/vendor/llama.cpp/ggml/src/ggml-cpu")
file(READ "${_ggml_cpu}/ops.cpp" _attention)

macro(hearth_replace place text)
    string(FIND "${_attention}" "${place}" _first)
    string(FIND "${_attention}" "${place}" _last REVERSE)
    if(_first EQUAL -1 OR NOT _first EQUAL _last)
        message(FATAL_ERROR "masked_cells.cmake: not once in ggml's ops.cpp:\n${place}")
    endif()
    string(REPLACE "${place}" "${text}" _attention "${_attention}")
endmacro()

if(NOT _attention MATCHES "masked_cells.h")
    hearth_replace([[#include "ops.h"
]] [[#include "ops.h"
#include "masked_cells.h"
]])

    # Row by row: from a hidden cell go to the next one that is seen.
    hearth_replace([[            if (mv == -INFINITY) {
                continue;
            }
]] [[            if (mv == -INFINITY) {
                ic = hearth::next_visible(mp, ic + 1, ic_end) - 1;
                continue;
            }
]])

    # In tiles: rows of many sequences are computed one by one, in this thread's part of the work memory.
    hearth_replace([[        void  * Q_q    = base;
]] [[        hearth::mask_rows seen = {nullptr, 0, tile_rows};
        if (mask) {
            seen.first  = (const char *) mask->data + iq1*mask->nb[1] + (iq2%mask->ne[2])*mask->nb[2] + (iq3%mask->ne[3])*mask->nb[3];
            seen.stride = mask->nb[1];
            if (seen.is_sparse(nek1, Q_TILE_SZ, KV_TILE_SZ)) {
                ggml_compute_params own = *params;
                own.ith   = 0;
                own.wdata = base;
                ggml_compute_forward_flash_attn_ext_f16_one_chunk(&own, dst, ir, ir + tile_rows, 0, nek1, nullptr, 0);
                ir += tile_rows;
                continue;
            }
        }

        void  * Q_q    = base;
]])

    # A tile that no row sees is left before its mask is converted.
    hearth_replace([[            // skip the tile entirely if all the masks are -inf
]] [[            if (mask && !seen.sees_any(ic, ic + kv_tile)) {
                continue;
            }

            // skip the tile entirely if all the masks are -inf
]])

    file(WRITE "${_ggml_cpu}/ops.cpp" "${_attention}")
    file(COPY "${CMAKE_CURRENT_LIST_DIR}/masked_cells.h" DESTINATION "${_ggml_cpu}")
endif()
