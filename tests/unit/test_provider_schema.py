"""The parsing of a provider's schema from its CDK bindings."""

from tools.provider_schema import Binding

SOURCE = """
function thingPartToHclTerraform(struct) {
    const attrs = {
        size: {
            value: cdktn.numberToHclTerraform(struct.size),
            isBlock: false,
            type: "simple",
            storageClassType: "number",
        },
    };
}
class ThingPartOutputReference extends cdktn.ComplexObject {
    // size - computed: true, optional: true, required: false
    _size;
    get size() {
        return this.getNumberAttribute('size');
    }
}
class ThingStateOutputReference extends cdktn.ComplexObject {
    // message - computed: true, optional: false, required: false
    get message() {
        return this.getStringAttribute('message');
    }
}
class ThingStateList extends cdktn.ComplexList {
}
class Thing extends cdktn.TerraformResource {
    // name - computed: false, optional: false, required: true
    _name;
    get name() {
        return this.getStringAttribute('name');
    }
    // labels - computed: false, optional: true, required: false
    _labels;
    get labels() {
        return this.getStringMapAttribute('labels');
    }
    // zones - computed: false, optional: true, required: false
    _zones;
    get zones() {
        return cdktn.Fn.tolist(this.getListAttribute('zones'));
    }
    // states - computed: true, optional: false, required: false
    _states = new ThingStateList(this, "states", false);
    get states() {
        return this._states;
    }
    // part - computed: false, optional: false, required: true
    _part = new ThingPartOutputReference(this, "part");
    get part() {
        return this._part;
    }
    // parts - computed: false, optional: true, required: false
    _parts = new ThingPartList(this, "parts", false);
    get parts() {
        return this._parts;
    }
    synthesizeHclAttributes() {
        const attrs = {
            name: {
                value: cdktn.stringToHclTerraform(this._name),
                isBlock: false,
                type: "simple",
                storageClassType: "string",
            },
            part: {
                value: thingPartToHclTerraform(this._part.internalValue),
                isBlock: true,
                type: "list",
                storageClassType: "ThingPartList",
            },
            parts: {
                value: cdktn.listMapperHcl(thingPartToHclTerraform, true)(this._parts.internalValue),
                isBlock: true,
                type: "set",
                storageClassType: "ThingPartList",
            },
        };
    }
}
"""


def test_attributes_have_their_types_and_flags() -> None:
    """Attributes are required, optional or computed, and are strings, maps, sets, or computed lists of objects."""
    assert Binding.parse(SOURCE).block("Thing")["attributes"] == {
        "name": ["string", "r"],
        "labels": [["map", "string"], "o"],
        "zones": [["set", "string"], "o"],
        "states": [["list", ["object", {"message": "string"}]], "c"],
    }


def test_blocks_have_their_nesting_and_bounds() -> None:
    """The schema has a required block, and any number of optional blocks."""
    part = {"attributes": {"size": ["number", "co"]}}
    assert Binding.parse(SOURCE).block("Thing")["blocks"] == {
        "part": {"nesting": "list", "min": 1, "max": 1, **part},
        "parts": {"nesting": "set", **part},
    }
