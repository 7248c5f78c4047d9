from __future__ import annotations

from tfllv.serve.metrics import Metrics


def test_the_page_is_in_prometheus_text_format():
    metrics = Metrics()
    metrics.describe("a_total", "Things.")
    metrics.describe("now", "A gauge.", lambda: 3)
    metrics.count("a_total", {"route": 'x"\\\n'})
    metrics.count("a_total", {"route": 'x"\\\n'}, 2)
    for value in (0.004, 0.02, 100):
        metrics.observe("b_seconds", value)
    lines = metrics.render().splitlines()
    assert "# HELP a_total Things." in lines and "# TYPE a_total counter" in lines
    assert 'a_total{route="x\\"\\\\\\n"} 3' in lines
    assert "now 3" in lines
    assert 'b_seconds_bucket{le="0.005"} 1' in lines
    assert 'b_seconds_bucket{le="0.025"} 2' in lines
    assert 'b_seconds_bucket{le="+Inf"} 3' in lines
    assert "b_seconds_count 3" in lines and "b_seconds_sum 100.024" in lines


def test_a_value_on_an_edge_belongs_below_it():
    metrics = Metrics()
    metrics.observe("b_size", 2)
    assert 'b_size_bucket{le="1"} 0' in metrics.render()
    assert 'b_size_bucket{le="2"} 1' in metrics.render()
