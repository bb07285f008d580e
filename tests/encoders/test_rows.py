from __future__ import annotations

import numpy as np

from appliance.encoders.rows import Row, pad, single_row


def test_rows_are_padded_to_the_longest_and_masked():
    rows = [single_row([5, 6, 7]), Row(np.array([8, 9], np.int32), second=1, second_type=1)]
    arrays = pad(rows, 99, {"input_ids", "attention_mask", "token_type_ids"})
    assert arrays["input_ids"].tolist() == [[5, 6, 7], [8, 9, 99]]
    assert arrays["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert arrays["token_type_ids"].tolist() == [[0, 0, 0], [0, 1, 0]]
    assert all(array.dtype == np.int64 for array in arrays.values())


def test_only_the_inputs_a_graph_takes_are_made():
    assert set(pad([single_row([1])], 0, ["input_ids", "attention_mask"])) == {"input_ids", "attention_mask"}
