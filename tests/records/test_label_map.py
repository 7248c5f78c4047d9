from __future__ import annotations

import pytest

from tfllv.records import label_map


@pytest.fixture
def read(tmp_path):
    def call(text):
        path = tmp_path / "map.pbtxt"
        path.write_text(text)
        return label_map.read(path)

    return call


def test_what_is_written_reads_back(read):
    names = {"Cat": 2, 'a "quoted" \\ name': 1, "tür": 3}
    assert read(label_map.write(names)) == names


def test_the_ways_in_which_such_files_are_written(read):
    assert read("# head\nitem{name:'/m/01g317', id:1, display_name: \"person\"}\nitem: { id: 3; name: 'b' }") == {
        "/m/01g317": 1,
        "person": 1,
        "b": 3,
    }
    assert read("item { id: 1 name: 'a' keypoints { id: 5 label: 'nose' } ancestor_ids: 3 }") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: item: no item"),
        ("item { id: 0 name: 'a' }", ":1: id: expected"),
        ("item { name: 'a' }", ":1: id: expected"),
        ("item {\n id: 1\n}", ":3: name: "),
        ("item { id: 1 name: 'a' }\nitem { id: 1 name: 'b' }", ":2: item: id 1"),
        ("item { id: 1 name: 'a' }\nitem { id: 2 name: 'a' }", ":2: item: "),
        ("item { id: 1 name: 'a'", "ends inside an item"),
        ("}", "without its {"),
        ("item { id: 1 name: 'a\n' }", ":1: item: expected a label map"),
        ("\0", "expected a label map"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


def test_tfods_own_reader_reads_what_is_written():
    """The text format of protocol buffers, by the real parser on a message of the same fields."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    file = descriptor_pb2.FileDescriptorProto(name="map.proto", package="t")
    item = file.message_type.add(name="Item")
    item.field.add(name="name", number=1, type=9, label=1)
    item.field.add(name="id", number=2, type=5, label=1)
    file.message_type.add(name="Map").field.add(name="item", number=1, type=11, type_name=".t.Item", label=3)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Map"))
    found = text_format.Parse(label_map.write({'a "b" \\': 4, "ü": 1}), kind())
    assert [(i.id, i.name) for i in found.item] == [(1, "ü"), (4, 'a "b" \\')]
