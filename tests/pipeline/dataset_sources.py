"""Small source files and configurations for the readers' tests."""

from pipeline.config import PipelineConfig

ROWS = """city,age,price,other,label
Rome, 30,1.5,x,0
 Oslo ,41.0,,y,1
"Paris, France",,2,z,1
Rome,7,1e-3,,0
"""


def make_config(path, reader="csv", label="label", positive_value=None, **features) -> PipelineConfig:
    features = features or {"categorical": ["city"], "integer": ["age"], "numeric": ["price"]}
    data = {"reader": reader, "path": str(path), "label": label, "positive_value": positive_value}
    return PipelineConfig.from_dict({"name": "test", "data": data, "features": features})
