"""The baseline `litserve`: the model behind LitServe, with its batching. Arguments: bundle, port, workers."""

import sys
from typing import Any

import litserve
import torch

from farandole.bundle import open_bundle


class ModelAPI(litserve.LitAPI):  # type: ignore[misc]  # has no types
    """The model as LitServe runs it."""

    def setup(self, device: str) -> None:
        """Load the model."""
        torch.set_num_threads(1)
        self.predictor = open_bundle(sys.argv[1]).predictor()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the raw row."""
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """Return raw rows as columns."""
        return {name: [row[name] for row in inputs] for name in inputs[0]}

    def predict(self, columns: dict[str, list[Any]]) -> list[Any]:
        """Return the predicted label of each row."""
        predictor = self.predictor
        outputs = predictor.outputs(predictor.features(predictor.raw_batch(columns)))
        return [str(value) for value in predictor.predictions(outputs)["prediction"]]

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Return the predictions one by one."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Return the answer."""
        return {"prediction": output}


def main() -> None:
    """Serve until the process is ended."""
    api = ModelAPI(max_batch_size=64, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(sys.argv[3]), track_requests=False)
    server.run(
        port=int(sys.argv[2]), host="127.0.0.1", num_api_servers=1, log_level="warning", generate_client_file=False
    )


if __name__ == "__main__":
    main()
