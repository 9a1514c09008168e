"""Files as other systems write them, with the columns of their formats: for the tests of the presets."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

FOCUS_COLUMNS = (
    *("AllocatedMethodId", "AllocatedMethodDetails", "AllocatedResourceId", "AllocatedResourceName", "AllocatedTags"),
    *("AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType"),
    *("BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "CapacityReservationId"),
    *("CapacityReservationStatus", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency"),
    *("ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId"),
    *("CommitmentDiscountName", "CommitmentDiscountQuantity", "CommitmentDiscountStatus", "CommitmentDiscountType"),
    *("CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit", "ContractApplied", "ContractedCost"),
    *("ContractedUnitPrice", "EffectiveCost", "HostProviderName", "InvoiceId", "InvoiceIssuerName", "ListCost"),
    *("ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice"),
    *("PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "RegionId"),
    *("RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceProviderName", "ServiceCategory"),
    *("ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId"),
    *("SubAccountName", "SubAccountType", "Tags"),
)
CUR_COLUMNS = (
    *("identity/LineItemId", "identity/TimeInterval", "bill/InvoiceId", "bill/BillingEntity", "bill/BillType"),
    *("bill/PayerAccountId", "bill/BillingPeriodStartDate", "bill/BillingPeriodEndDate", "lineItem/UsageAccountId"),
    *("lineItem/LineItemType", "lineItem/UsageStartDate", "lineItem/UsageEndDate", "lineItem/ProductCode"),
    *("lineItem/UsageType", "lineItem/Operation", "lineItem/AvailabilityZone", "lineItem/ResourceId"),
    *("lineItem/UsageAmount", "lineItem/NormalizationFactor", "lineItem/NormalizedUsageAmount"),
    *("lineItem/CurrencyCode", "lineItem/UnblendedRate", "lineItem/UnblendedCost", "lineItem/BlendedRate"),
    *("lineItem/BlendedCost", "lineItem/LineItemDescription", "lineItem/TaxType", "product/ProductName"),
    *("product/instanceType", "product/region", "product/sku", "pricing/RateCode", "pricing/term", "pricing/unit"),
    *("reservation/ReservationARN", "savingsPlan/SavingsPlanARN", "resourceTags/user:env"),
)
#: Columns of the Cost and Usage Report 2.0 by those of the first one.
CUR_2_COLUMNS = {
    "bill/PayerAccountId": "bill_payer_account_id",
    "lineItem/UsageAccountId": "line_item_usage_account_id",
    "lineItem/LineItemType": "line_item_line_item_type",
    "lineItem/UsageStartDate": "line_item_usage_start_date",
    "lineItem/UsageEndDate": "line_item_usage_end_date",
    "lineItem/ProductCode": "line_item_product_code",
    "lineItem/UsageType": "line_item_usage_type",
    "lineItem/Operation": "line_item_operation",
    "lineItem/ResourceId": "line_item_resource_id",
    "lineItem/UsageAmount": "line_item_usage_amount",
    "product/region": "product_region_code",
    "pricing/unit": "pricing_unit",
}


def csv_text(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """CSV with a header; a column that a row does not have is empty."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT00:00:00Z")


def focus_rows(now: datetime) -> list[dict[str, Any]]:
    """Two virtual machines (one for a fraction of an hour), a tax, an unused commitment, and a service without a meter
    of its own, on the day before `now`."""
    used = {
        "BilledCost": "1.2",
        "BillingAccountId": "123456789012",
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargeDescription": "$0.05 per On Demand Linux t3.medium Instance Hour",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": day(now - timedelta(days=1)),
        "ChargePeriodEnd": day(now),
        "ConsumedQuantity": "24.0000000000",
        "ConsumedUnit": "Hours",
        "HostProviderName": "AWS",
        "PricingCategory": "Standard",
        "RegionId": "eu-central-1",
        "ResourceId": "i-1",
        "ResourceType": "Virtual Machine",
        "ServiceProviderName": "AWS",
        "ServiceCategory": "Compute",
        "ServiceName": "Amazon Elastic Compute Cloud",
        "SkuId": "SKU1",
        "SkuMeter": "Compute Hours",
        "SkuPriceId": "SKU1.P1",
        "SubAccountId": "210987654321",
        "Tags": '{"env":"prod"}',
    }
    return [
        used,
        {**used, "ResourceId": "i-2", "ConsumedQuantity": "0.0002777778", "Tags": ""},
        {**used, "ChargeCategory": "Tax", "ConsumedQuantity": "", "ConsumedUnit": "", "SkuMeter": ""},
        {**used, "CommitmentDiscountStatus": "Unused", "ConsumedQuantity": "", "ConsumedUnit": ""},
        {**used, "ServiceName": "Amazon S3", "SkuMeter": "", "ConsumedQuantity": "7", "SubAccountId": ""},
    ]


def write_focus(path: Path, now: datetime) -> Path:
    path.write_text(csv_text(FOCUS_COLUMNS, focus_rows(now)), encoding="utf-8")
    return path


def cur_rows(now: datetime) -> list[dict[str, Any]]:
    """An hour on demand, an hour under a reservation, and the tax of both, on the day before `now`."""
    used = {
        "identity/LineItemId": "a1b2",
        "bill/PayerAccountId": "111111111111",
        "lineItem/UsageAccountId": "222222222222",
        "lineItem/LineItemType": "Usage",
        "lineItem/UsageStartDate": day(now - timedelta(days=1)),
        "lineItem/UsageEndDate": day(now),
        "lineItem/ProductCode": "AmazonEC2",
        "lineItem/UsageType": "EUC1-BoxUsage:t3.medium",
        "lineItem/Operation": "RunInstances",
        "lineItem/ResourceId": "i-1",
        "lineItem/UsageAmount": "1.0000000000",
        "product/region": "eu-central-1",
        "pricing/unit": "Hrs",
        "resourceTags/user:env": "prod",
    }
    return [
        used,
        {**used, "lineItem/LineItemType": "DiscountedUsage", "lineItem/UsageAmount": "0.9999999999"},
        {**used, "lineItem/LineItemType": "Tax", "lineItem/UsageAmount": "1", "lineItem/UsageType": ""},
    ]


def write_cur(path: Path, now: datetime) -> Path:
    path.write_bytes(gzip.compress(csv_text(CUR_COLUMNS, cur_rows(now)).encode()))
    return path


OPENAI_RESULT: dict[str, Any] = {
    "object": "organization.usage.completions.result",
    "input_tokens": 1000,
    "output_tokens": 500,
    "input_cached_tokens": 800,
    "input_audio_tokens": 0,
    "output_audio_tokens": 0,
    "num_model_requests": 5,
    "project_id": "proj_1",
    "user_id": None,
    "api_key_id": "key_1",
    "model": "gpt-4o-2024-08-06",
    "batch": False,
}


def openai_page(now: datetime) -> dict[str, Any]:
    """A page of the usage API: a bucket with two results, and an empty one."""
    start = int((now - timedelta(hours=2)).timestamp()) // 60 * 60
    results = [OPENAI_RESULT, {**OPENAI_RESULT, "api_key_id": "key_2", "output_tokens": 0, "input_cached_tokens": 0}]
    buckets = [
        {"object": "bucket", "start_time": start, "end_time": start + 60, "results": results},
        {"object": "bucket", "start_time": start + 60, "end_time": start + 120, "results": []},
    ]
    return {"object": "page", "data": buckets, "has_more": True, "next_page": "page_AAAAAGdGxdEi"}


def openai_csv(now: datetime) -> str:
    """The same as the export of the dashboard."""
    (bucket, _) = openai_page(now)["data"]
    columns = ("start_time", "end_time", "start_time_iso", "end_time_iso", *list(OPENAI_RESULT)[1:])
    rows = [
        {
            "start_time": bucket["start_time"],
            "end_time": bucket["end_time"],
            "start_time_iso": datetime.fromtimestamp(bucket["start_time"], UTC).isoformat(),
            **{name: value for name, value in result.items() if name in columns},
            "batch": "false",
            "num_model_requests": f"{result['num_model_requests']}.0",
        }
        for result in bucket["results"]
    ]
    return csv_text(columns, rows)


def openai_activity(now: datetime) -> str:
    """The export of 2024."""
    columns = (
        *("timestamp", "api_key_id", "api_key_name", "organization_id", "project_id", "model", "operation"),
        *("n_requests", "n_context_tokens_total", "n_generated_tokens_total", "usage_type"),
    )
    row = {
        "timestamp": int((now - timedelta(hours=2)).timestamp()),
        "api_key_name": "web",
        "organization_id": "org-1",
        "model": "gpt-4-0613",
        "operation": "completion",
        "n_requests": 3,
        "n_context_tokens_total": 70,
        "n_generated_tokens_total": 30,
        "usage_type": "text",
    }
    return csv_text(columns, [row])


def spend_rows(now: datetime) -> list[dict[str, Any]]:
    """Rows of LiteLLM_SpendLogs: of a user, of an end user, and one that failed and cost nothing."""
    row = {
        "request_id": "chatcmpl-1",
        "call_type": "acompletion",
        "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
        "spend": 1.3800000000000002e-05,
        "total_tokens": 30,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "startTime": (now - timedelta(hours=3)).strftime("%Y-%m-%d %H:%M:%S.123"),
        "endTime": (now - timedelta(hours=3)).strftime("%Y-%m-%d %H:%M:%S.987"),
        "model": "gpt-4o",
        "model_group": "gpt-4o",
        "custom_llm_provider": "openai",
        "user": "ada",
        "metadata": {"user_api_key_alias": "web", "usage_object": {"prompt_tokens": 10}},
        "cache_hit": "False",
        "request_tags": ["team:red"],
        "team_id": "red",
        "end_user": "",
        "status": "success",
    }
    return [
        row,
        {**row, "request_id": "chatcmpl-2", "end_user": "customer-7", "spend": 0.5},
        {**row, "request_id": "chatcmpl-3", "user": "", "team_id": None, "status": "failure"}
        | {"spend": 0.0, "prompt_tokens": 0, "completion_tokens": 0},
    ]


def json_lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
